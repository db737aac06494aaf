package dtlslink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"portredirector/internal/auth"
	"portredirector/internal/backoff"
)

// Dialer keeps a link to one other end. Its fields must be set before Run.
type Dialer struct {
	Name    string // for the log and Link.Name
	Host    string // the name that a certificate must have
	Addrs   func(context.Context) ([]netip.AddrPort, error)
	Auth    *auth.Dialer
	Purpose auth.Purpose              // auth.ToServer or auth.ToClient
	Judge   func(auth.Identity) error // whether the other end may have a link; nil is no rule
	Handler Handler

	// Tried, if set, is called once, when the first link is open or has failed to open.
	Tried func()

	Timeout   time.Duration // of the handshake
	KeepAlive time.Duration // between pings of an idle link
	Log       *slog.Logger

	connect func(netip.AddrPort) (packetConn, error) // nil is a UDP socket
	times   times
	told    bool // the failure to open a link has been logged
	tasks   sync.WaitGroup
}

// Pauses between attempts to open a link.
const (
	minRedial = 50 * time.Millisecond
	maxRedial = 5 * time.Second
	// steady is the lifetime of a link that resets the pauses.
	steady = 10 * time.Second
)

// Run keeps a link open until ctx is canceled, and then closes it. When retire is canceled, the
// link retires, and Run opens no other.
func (d *Dialer) Run(ctx, retire context.Context) {
	defer d.tasks.Wait()
	if d.times == (times{}) {
		d.times = timesOf(d.KeepAlive)
	}
	tried := sync.OnceFunc(func() {
		if d.Tried != nil {
			d.Tried()
		}
	})
	defer tried()
	var old *Link
	retry := backoff.Backoff{Min: minRedial, Max: maxRedial}
	for ctx.Err() == nil && retire.Err() == nil {
		link, err := d.open(ctx)
		tried()
		if err != nil {
			d.tell(ctx, err)
			backoff.Sleep(ctx, retry.Next())
			continue
		}
		d.told = false
		d.Log.Info("link for UDP is open", slog.String("link", d.Name), slog.String("at", link.Remote().String()))
		if old != nil {
			old.Retire()
		}
		old = link
		select {
		case <-ctx.Done():
		case <-retire.Done():
			link.Retire()
			return
		case <-link.replace:
		case <-link.done:
		}
		if time.Since(link.began) > steady || link.isRetired() {
			retry.Reset()
		}
		backoff.Sleep(ctx, retry.Next())
	}
}

// tell logs once that the link cannot be opened.
func (d *Dialer) tell(ctx context.Context, err error) {
	level := slog.LevelDebug
	if !d.told {
		level, d.told = slog.LevelWarn, true
	}
	if ctx.Err() == nil {
		d.Log.Log(ctx, level, "link for UDP cannot be opened, trying again", slog.String("link", d.Name), slog.Any("error", err))
	}
}

var errNoAddress = errors.New("the other end has no address yet")

// open opens a link to the first address that answers.
func (d *Dialer) open(ctx context.Context) (*Link, error) {
	addrs, err := d.Addrs(ctx)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, errNoAddress
	}
	var errs []error
	for _, a := range addrs {
		link, err := d.openAt(ctx, a)
		if err == nil {
			return link, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", a, err))
	}
	return nil, errors.Join(errs...)
}

// openAt opens a link to an address. The link lives until ctx is canceled.
func (d *Dialer) openAt(ctx context.Context, at netip.AddrPort) (*Link, error) {
	connect := d.connect
	if connect == nil {
		connect = connectUDP
	}
	conn, err := connect(at)
	if err != nil {
		return nil, err
	}
	t := &attempt{dialer: d, conn: conn, at: at, token: make(chan struct{}, 1), opened: make(chan struct{})}
	t.handshake = newHandshake(d.Auth.Datagram(d.Host, d.Purpose), t.write)
	return t.open(ctx)
}

// connectUDP connects a UDP socket.
func connectUDP(to netip.AddrPort) (packetConn, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return nil, err
	}
	s, err := newSocket(conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}
