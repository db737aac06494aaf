package e2e_test

import (
	"fmt"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// TestServiceSpeaksFirst has a service that greets, and peers that send nothing and wait for that.
func TestServiceSpeaksFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server(t, "-p 80")
	w.client(t, "-p 80")
	for _, p := range []peer{w.alice, w.bob, w.carol} {
		service := listen(t, w.m2, p.loopback(80).String())
		peer := dial(t, p.Host, p.at(80))
		greeter := accept(t, service)
		_, err := fmt.Fprintf(greeter, "hello %v", remoteAddr(greeter))
		nstest.Must(t, err)
		wantNext(t, peer, fmt.Sprintf("hello %v", localAddr(peer)))
		nstest.Must(t, service.Close())
	}
}
