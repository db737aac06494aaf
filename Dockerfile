# `make image` builds it, of bin/image.tar: the program with its file capabilities, and an empty directory for pairing.
FROM scratch
ADD bin/image.tar /
USER 65532:65532
ENTRYPOINT ["/portredirector"]
HEALTHCHECK --interval=15s --timeout=10s --start-period=10s CMD ["/portredirector", "health"]
