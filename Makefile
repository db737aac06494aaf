# Each recipe can be pasted into a shell. The tools are pinned in tools/go.mod and tools/lint.mod.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 40s

# Where a plain user's shell does not look, and nft, sshd and nginx are.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: bench build clean deadcode deb demo fmt fuzz help image lint man release short test vuln

build: ## build the static binary bin/portredirector
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o bin/portredirector ./cmd/portredirector

image: build ## build the container image portredirector:latest; GOARCH=arm64 for another machine
	GOARCH= CGO_ENABLED=0 go run -trimpath ./image bin/portredirector >bin/image.tar
	$(if $(GOARCH),DOCKER_BUILDKIT=1 )docker build --quiet --platform linux/$$(go env GOARCH) --tag portredirector:latest --tag portredirector:$(VERSION) .

man: ## write the manual pages and the completions of bash, zsh and fish into bin
	VERSION=$(VERSION) go test -trimpath -vet=off -count=1 -run '^TestManual$$' ./cmd/portredirector -write $(abspath $(or $(DIR),bin))

deb: ## build the Debian packages for amd64 and arm64 in bin/release
	VERSION=$(VERSION) scripts/release bin/release amd64 arm64

release: ## build packages and tarballs for all architectures in bin/release, the same bytes each time
	rm -rf bin/release
	VERSION=$(VERSION) scripts/release bin/release amd64 arm64 armv7 riscv64

demo: build ## show it at work on this machine; needs nothing but Go
	bin/portredirector demo

# The linter vets.
test: ## run all tests with the race detector; as root, install first what they need
	scripts/test-deps
	go test -race -vet=off -shuffle=on -parallel 6 -timeout 30m ./...
	cd contrib/kubernetes && CGO_ENABLED=0 go test -trimpath -vet=off ./...

short: ## run the tests that need no other program and no C compiler
	go test -short -shuffle=on -timeout 2m ./...

fuzz: ## run each fuzz test for FUZZTIME (40s)
	@{ grep -roE --include='*_test.go' '^func Fuzz\w+' . || echo 'no fuzz tests' >&2; } | while IFS=: read -r file func; do \
		(set -x; go test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) "$${file%/*}") || exit; done

bench: ## compare with HAProxy on this machine; about an hour, BENCHFLAGS=-quick for a look
	go run ./bench $(BENCHFLAGS)

lint: ## check the code, and look for known vulnerabilities; the first run builds the linter and takes minutes
	go tool -modfile=tools/go.mod gofumpt -d .
	go tool -modfile=tools/lint.mod golangci-lint run
	VULNDB=$(VULNDB) scripts/vuln || test $$? -eq 75 # 75: it says that it could not look

deadcode: ## list the functions that nothing calls
	go tool -modfile=tools/go.mod deadcode -test ./...

vuln: ## look for known vulnerabilities; needs the network, or VULNDB=file:///a/copy/of/the/database
	VULNDB=$(VULNDB) scripts/vuln

fmt: ## format the code
	go tool -modfile=tools/go.mod goimports -local portredirector -w .
	go tool -modfile=tools/go.mod gofumpt -w .

clean: ## remove what was built
	rm -rf bin

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.* *## /\1\t/p' Makefile | expand -t 12
