package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// The commands to a load that holds connections, one per line. Each is answered by an outcome. The end of standard input ends the
// load.
const (
	CommandHold  = "hold"  // N: have N connections, each with one byte echoed on it
	CommandCheck = "check" // one more echo on each
	CommandDrop  = "drop"  // close all, by FIN
)

// holdLimit bounds the time of one command. Connections that are not done by then have failed.
const holdLimit = 30 * time.Second

// holders is the number of connections that are made or checked at a time.
const holders = 32

// hold holds idle connections, as it is told to.
func hold(ctx context.Context, e Streams, p *peers) error {
	var conns []*net.TCPConn
	answer := json.NewEncoder(e.Stdout)
	for commands := bufio.NewScanner(e.Stdin); commands.Scan(); {
		var command string
		var n int
		_, _ = fmt.Sscan(commands.Text(), &command, &n) // the number is only there for hold
		ctx, cancel := context.WithTimeout(ctx, holdLimit)
		var o Outcome
		switch command {
		case CommandHold:
			var more []*net.TCPConn
			more, o = open(ctx, p, n-len(conns))
			conns = append(conns, more...)
		case CommandCheck:
			o = check(ctx, conns)
		case CommandDrop:
			for _, conn := range conns {
				_ = conn.Close()
			}
			conns = nil
		default:
			cancel()
			return fmt.Errorf("no command %q", command)
		}
		cancel()
		if err := answer.Encode(o); err != nil {
			return err
		}
	}
	for _, conn := range conns {
		reset(conn)
	}
	return nil
}

// open makes n connections and tells how many could not be made.
func open(ctx context.Context, p *peers, n int) ([]*net.TCPConn, Outcome) {
	conns := make([]*net.TCPConn, n)
	o := each(ctx, n, func(i int) error {
		conn, err := p.dial(ctx)
		if err != nil {
			return err
		}
		if err := touch(conn); err != nil {
			reset(conn)
			return err
		}
		conns[i] = conn
		return nil
	})
	return slices.DeleteFunc(conns, func(c *net.TCPConn) bool { return c == nil }), o
}

// check sends a byte on each connection and tells on how many none came back.
func check(ctx context.Context, conns []*net.TCPConn) Outcome {
	return each(ctx, len(conns), func(i int) error { return touch(conns[i]) })
}

// touch sends a byte on a connection and waits for its echo.
func touch(conn *net.TCPConn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	b := make([]byte, 1)
	if _, err := conn.Write(b); err != nil {
		return err
	}
	_, err := conn.Read(b)
	return err
}

// each calls do for the numbers below n, some at a time, and counts failures. When ctx ends, the rest has failed.
func each(ctx context.Context, n int, do func(i int) error) Outcome {
	next := make(chan int)
	var mu sync.Mutex
	failed, problem := 0, ""
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failed++
		if problem == "" {
			problem = err.Error()
		}
	}
	var workers sync.WaitGroup
	for range holders {
		workers.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					fail(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			fail(context.Cause(ctx))
		}
	}
	close(next)
	workers.Wait()
	return Outcome{Values: Values{"failed": float64(failed)}, Problem: problem}
}

// reset closes a connection by RST.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}
