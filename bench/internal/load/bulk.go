package load

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"portredirector/bench/internal/world"
)

// bulk moves bytes one way on some connections, and measures the rate, and the CPU time per GB of the contender's processes.
func bulk(ctx context.Context, p *peers, c loadConfig) (Outcome, error) {
	move := send
	if c.down {
		move = receive
	}
	var moved atomic.Int64
	var conns []*net.TCPConn
	var streams sync.WaitGroup
	defer streams.Wait()
	defer func() {
		for _, conn := range conns {
			reset(conn)
		}
	}()
	failed := make(chan error, c.connections)
	for range c.connections {
		conn, err := p.dial(ctx)
		if err != nil {
			return Outcome{}, err
		}
		conns = append(conns, conn)
		streams.Go(func() { failed <- move(conn, &moved) })
	}
	begin, err := after(ctx, c.warmUp, failed, &moved, c.pids)
	if err != nil {
		return Outcome{}, err
	}
	end, err := after(ctx, c.length, failed, &moved, c.pids)
	if err != nil {
		return Outcome{}, err
	}
	const bit, giga = 8, 1e9
	bytes := float64(end.moved - begin.moved)
	if bytes == 0 {
		return Outcome{}, errors.New("no byte was moved")
	}
	values := Values{"gbit": bytes * bit / giga / end.at.Sub(begin.at).Seconds()}
	if len(c.pids) > 0 {
		values["cpu"] = (end.cpu - begin.cpu).Seconds() / (bytes / giga)
	}
	return Outcome{Values: values}, nil
}

// reading is the progress of a transfer at one moment.
type reading struct {
	at    time.Time
	moved int64
	cpu   time.Duration
}

// after takes a reading some time from now, unless a stream fails before that.
func after(ctx context.Context, d time.Duration, failed <-chan error, moved *atomic.Int64, pids map[string]int) (reading, error) {
	select {
	case err := <-failed:
		return reading{}, err
	case <-ctx.Done():
		return reading{}, context.Cause(ctx)
	case <-time.After(d):
	}
	r := reading{moved: moved.Load(), at: time.Now()}
	for _, pid := range pids {
		used, err := world.CPUTime(pid)
		if err != nil {
			return reading{}, err
		}
		r.cpu += used
	}
	return r, nil
}

func send(conn *net.TCPConn, moved *atomic.Int64) error {
	b := make([]byte, bulkSize)
	for {
		n, err := conn.Write(b)
		if err != nil {
			return err
		}
		moved.Add(int64(n))
	}
}

func receive(conn *net.TCPConn, moved *atomic.Int64) error {
	b := make([]byte, bulkSize)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		moved.Add(int64(n))
	}
}
