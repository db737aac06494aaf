package load

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// answerSize is the size of an answer, in bytes.
const answerSize = 100 << 10

// answerBytes holds the bytes of all answers, see answerTo.
var answerBytes = func() (all [answerSize + 1<<8]byte) {
	const period = 251 // a prime, so that no shift by the size of a buffer or packet goes unnoticed
	for i := range all {
		all[i] = byte(i % period)
	}
	return all
}()

// answerTo returns the answer to a request. It differs in every byte from the answer to the request before.
func answerTo(request byte) []byte { return answerBytes[request:][:answerSize] }

// answer reads a request and writes the answer to it.
func answer(conn net.Conn, b []byte) (n int, err error) {
	if _, err := io.ReadFull(conn, b[:messageSize]); err != nil {
		return 0, err
	}
	return conn.Write(answerTo(b[0]))
}

// answers connects peers at a steady rate, each with a request, and measures the time from before the connect until the last byte
// of the answer.
func answers(ctx context.Context, p *peers, c loadConfig) (Outcome, error) {
	every := time.Second / time.Duration(c.rate)
	warmUp := int(c.warmUp / every)
	took := make([]time.Duration, warmUp+c.samples)
	errs := make([]error, len(took))
	var visits sync.WaitGroup
	begin := time.Now()
	for i := range took {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * every)))
		if ctx.Err() != nil {
			return Outcome{}, context.Cause(ctx)
		}
		visits.Go(func() {
			start := time.Now()
			conn, err := p.dial(ctx)
			if err != nil {
				errs[i] = err
				return
			}
			defer conn.Close()
			took[i], errs[i] = ask(conn, byte(i), start) //nolint:gosec // the low byte of the number
		})
	}
	visits.Wait()
	var s stream
	for i, err := range errs {
		switch {
		case err != nil:
			s.note(err)
		case i >= warmUp:
			s.took = append(s.took, took[i])
		}
	}
	return s.outcome(len(took))
}

// ask sends a request and returns the time from start until the last byte of the answer. Then it closes its direction and waits until
// the service has closed the other one.
func ask(conn *net.TCPConn, request byte, start time.Time) (took time.Duration, err error) {
	if err := conn.SetDeadline(start.Add(patience)); err != nil {
		return 0, err
	}
	if _, err := conn.Write(append([]byte{request}, make([]byte, messageSize-1)...)); err != nil {
		return 0, err
	}
	got := make([]byte, answerSize)
	if _, err := io.ReadFull(conn, got); err != nil {
		return 0, err
	}
	took = time.Since(start)
	if !bytes.Equal(got, answerTo(request)) {
		return 0, errors.New("wrong bytes in the answer")
	}
	if err := conn.CloseWrite(); err != nil {
		return 0, err
	}
	if _, err := conn.Read(got); !errors.Is(err, io.EOF) {
		return 0, errors.Join(errors.New("no end after the answer"), err)
	}
	return took, nil
}
