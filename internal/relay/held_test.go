package relay

import (
	"testing"

	"golang.org/x/sys/unix"

	"portredirector/internal/socket"
	"portredirector/internal/testnet/nstest"
	"portredirector/internal/wire"
)

// TestStatusIsHeld checks that a status is sent with the service's first bytes, after holdTime,
// or when the peer has sent much.
func TestStatusIsHeld(t *testing.T) {
	status := string(wire.AppendFrame(nil, wire.KindStatus, byte(wire.Connected)))
	data := func(n int) []byte { return wire.AppendFrame(nil, wire.KindData, make([]byte, n)...) }
	for name, tt := range map[string]struct {
		later           int64 // ms
		client, service []byte
		want            string
	}{
		"nobody says anything": {want: ""},
		"a while later":        {later: holdTime.Milliseconds(), want: status},
		"the service answers":  {service: make([]byte, 5), want: status + string(data(5))},
		"the peer says little": {client: data(heldUp), want: ""},
		"the peer says much":   {client: data(heldUp + 1), want: status},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := newLoop(newLife(nil), &listeners{}, Options{})
			nstest.Must(t, err)
			t.Cleanup(l.close)
			client, link := socketPair(t)
			dialed, service := socketPair(t)
			t.Cleanup(func() { socket.Close(client); socket.Close(service) })
			l.life.enter()
			l.addPair(&Pair{Accepted: link, Dialed: dialed, Framed: AcceptedLink, DownPrefix: []byte(status)})
			t.Cleanup(func() { l.finish(l.flows.all()[0], cut, nil) })

			l.round()
			l.now += tt.later
			for fd, b := range map[int][]byte{client: tt.client, service: tt.service} {
				if len(b) > 0 {
					nstest.Must(t, socket.Send(fd, b))
				}
			}
			l.round()
			l.round()
			b := make([]byte, 100)
			n, errno := socket.Recv(client, b)
			if tt.want == "" && errno != unix.EAGAIN || tt.want != "" && string(b[:max(0, n)]) != tt.want {
				t.Errorf("the client reads %q, %v, want %q", b[:max(0, n)], errno, tt.want)
			}
		})
	}
}

// round runs a loop once. Its clock stands still.
func (l *loop) round() {
	var events [8]unix.EpollEvent
	l.releaseHeld()
	n := l.poll.Wait(events[:], l.waitTime())
	l.noteEvents(events[:n])
	l.stepAll()
}
