package enroll_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"portredirector/internal/auth"
	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/wire"
)

// Both ends, but for the TLS session between them, by which each has proved its key.
func Example() {
	dir, err := os.MkdirTemp("", "pair")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	m1, m2 := net.Pipe()

	// On M1, of which m2Key is known by the session.
	client := func(state *enroll.State, m2Key auth.PublicKey) {
		request, err := wire.ReadJoin(m1)
		if err != nil {
			panic(err)
		}
		called, err := state.Accept(request.Secret, m2Key, request.Name)
		fmt.Println("client: accepted", called, err)
		if err := enroll.WriteAnswer(m1, err); err != nil {
			panic(err)
		}
	}

	// On M2.
	server := func(state *enroll.State, line string) {
		invitation, err := enroll.Parse(line)
		if err != nil {
			panic(err)
		}
		if err := wire.WriteJoin(m2, wire.Join{Secret: invitation.Secret, Name: "home"}); err != nil {
			panic(err)
		}
		if err := enroll.ReadAnswer(m2); err != nil {
			panic(err)
		}
		if err := state.Join(invitation); err != nil {
			panic(err)
		}
		joined, err := state.Joined()
		fmt.Println("server: joined", joined[0].Address, joined[0].Client.Ports, err)
	}

	clientState, err1 := enroll.Open(filepath.Join(dir, "m1"))
	serverState, err2 := enroll.Open(filepath.Join(dir, "m2"))
	own, err3 := serverState.Key()
	invitation, err4 := clientState.Invite("192.0.2.1:12345", []ports.Range{{First: 80, Last: 80}, {First: 8000, Last: 8099}}, enroll.DefaultValidity)
	fmt.Println(err1, err2, err3, err4)

	done := make(chan struct{})
	go func() {
		client(clientState, own.Public())
		close(done)
	}()
	server(serverState, invitation.String())
	<-done
	// Unordered output:
	// <nil> <nil> <nil> <nil>
	// client: accepted home <nil>
	// server: joined 192.0.2.1:12345 [80 8000-8099] <nil>
}
