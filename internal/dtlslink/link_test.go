package dtlslink

import (
	"testing"

	"portredirector/internal/wire"
)

// TestMessages: each kind of message arrives at the other end as it was sent.
func TestMessages(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			e, client, server := newEnds(), newRecorder(), newRecorder()
			conn := listen(t, at)
			serve(t, e.listener(t, server), conn)
			to := conn.LocalAddr().String()
			if at == "[::]:0" {
				to = "127.0.0.1" + to[len("[::]"):]
			}
			run(t, forever(e.dialer(t, to, client)))
			up := client.next(t, "opened").link
			down := server.next(t, "opened").link
			if got := down.Identity().Key; got != e.client.Public() {
				t.Errorf("the server knows the client as %v", got)
			}
			must(t, up.First(1, []byte("header"), []byte("payload")))
			must(t, up.Data(3, []byte("more")))
			must(t, up.End(4, wire.Refused, 77))
			up.Flush()
			for _, want := range []event{
				{what: "first", flow: 1, b: "headerpayload"},
				{what: "data", flow: 3, b: "more"},
				{what: "end", flow: 4, status: wire.Refused, seconds: 77},
			} {
				want.link = down
				if got := server.next(t, want.what); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
			must(t, down.Data(5, nil))
			down.Flush()
			if got := client.next(t, "data"); got.flow != 5 || got.b != "" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
