package supervisor

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"portredirector/internal/ban"
	"portredirector/internal/local"
)

// keptFDs are descriptors that the next program inherits.
type keptFDs []int

// keep adds a duplicate of a socket.
func (k *keptFDs) keep(c syscall.Conn) (fd int, err error) {
	fd, err = duplicate(c, false)
	if err == nil {
		*k = append(*k, fd)
	}
	return fd, err
}

// keepFD adds a duplicate of a descriptor.
func (k *keptFDs) keepFD(of int) (fd int, err error) {
	fd, err = unix.FcntlInt(uintptr(of), unix.F_DUPFD, 0)
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	*k = append(*k, fd)
	return fd, nil
}

// close closes the duplicates, when no program was executed.
func (k keptFDs) close() {
	for _, fd := range k {
		_ = unix.Close(fd)
	}
}

// leave returns all that the next program needs.
func (s *Supervisor) leave() (left state, kept keptFDs, err error) {
	left = state{Version: s.cfg.Version, Binary: s.binary, Content: s.plan.content, Bans: s.bans.List().All(), Reloading: s.reload != nil, Wanted: s.wanted}
	for address, of := range s.listeners {
		fd, err := kept.keepFD(of)
		if err != nil {
			return left, kept, err
		}
		left.Listeners = append(left.Listeners, listenerState{address, fd})
	}
	for _, w := range s.workers {
		fd, err := kept.keep(w.conn)
		if err != nil {
			return left, kept, err
		}
		left.Workers = append(left.Workers, workerState{w.section, w.version, w.pid, fd, w.phase, w.current, w.since, w.status})
	}
	for _, p := range s.passed {
		fd, err := kept.keepFD(p.fd)
		if err != nil {
			return left, kept, err
		}
		left.Peers = append(left.Peers, peerState{p.section, p.peer, fd})
	}
	var waiting []*net.UnixConn
	if s.reload != nil {
		waiting = s.reload.callers
	}
	if left.Callers, err = kept.keepAll(waiting); err != nil {
		return left, kept, err
	}
	if left.Waiting, err = kept.keepAll(s.waiting); err != nil {
		return left, kept, err
	}
	if left.Admin, err = kept.keep(s.callers.admin); err != nil {
		return left, kept, err
	}
	left.Reload, err = kept.keep(s.callers.reload)
	left.Kept = kept
	return left, kept, err
}

// keepAll adds duplicates of the sockets of callers.
func (k *keptFDs) keepAll(conns []*net.UnixConn) (fds []int, err error) {
	for _, c := range conns {
		fd, err := k.keep(c)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// adopt takes over what another program has left.
func (s *Supervisor) adopt(left state) (err error) {
	for _, fd := range left.Kept {
		if err := closeOnExec(fd, true); err != nil {
			return err
		}
	}
	defer left.closeUnknown()
	s.binary = left.Binary
	if s.callers.admin, err = listenerOf[*net.UnixListener](left.Admin); err != nil {
		return err
	}
	if s.callers.reload, err = listenerOf[*net.UnixListener](left.Reload); err != nil {
		return err
	}
	for _, l := range left.Listeners {
		s.listeners[l.Address] = l.FD
	}
	for _, l := range left.Workers {
		if err := s.adoptWorker(l); err != nil {
			return err
		}
	}
	for _, p := range left.Peers {
		s.passed = append(s.passed, passed{p.Section, p.Peer, p.FD})
	}
	if s.plan, err = s.cfg.parse(left.Content); err != nil {
		// A worker that dies cannot be replaced now. The reload under way reads the new file.
		s.log.Warn("this version does not understand the file of the old workers", slog.Any("error", err))
		s.plan = Plan{content: left.Content}
	}
	list := new(ban.List)
	list.Apply(ban.Change{Add: left.Bans})
	s.bans = ban.OpenBook(list, s.plan.Bans, s.cfg.BansDir, s.log)
	s.wanted = left.Wanted
	if s.waiting, err = adoptCallers(left.Waiting); err != nil {
		return err
	}
	if !left.Reloading {
		return nil
	}
	s.reload = new(reload)
	s.reload.callers, err = adoptCallers(left.Callers)
	return err
}

// adoptWorker takes over a worker, which is a child of this process already.
func (s *Supervisor) adoptWorker(l workerState) error {
	conn, err := local.Conn(l.FD)
	if err != nil {
		return fmt.Errorf("worker %d: %w", l.PID, err)
	}
	w := &worker{section: l.Section, version: l.Version, pid: l.PID, conn: conn, phase: l.Phase, current: l.Current, since: l.Since, answered: true}
	s.workers = append(s.workers, w)
	if w.status = l.Status; w.status == nil {
		s.children[w.pid] = func(status syscall.WaitStatus) { w.status = &status; s.checkEnded(w) }
	}
	s.read(w)
	if w.phase != retired {
		_ = w.tell(order{Do: doPing}, none) // what it has said meanwhile
	}
	return nil
}

func adoptCallers(fds []int) (conns []*net.UnixConn, err error) {
	for _, fd := range fds {
		c, err := local.Conn(fd)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// closeUnknown closes the descriptors that a later version has left, and this one does not
// know.
func (st state) closeUnknown() {
	known := append([]int{st.Admin, st.Reload}, append(st.Callers, st.Waiting...)...)
	for _, l := range st.Listeners {
		known = append(known, l.FD)
	}
	for _, w := range st.Workers {
		known = append(known, w.FD)
	}
	for _, p := range st.Peers {
		known = append(known, p.FD)
	}
	for _, fd := range st.Kept {
		if !slices.Contains(known, fd) {
			_ = unix.Close(fd)
		}
	}
}

// listenerOf takes a listening socket into package net. The descriptor is given up.
func listenerOf[T net.Listener](fd int) (listener T, err error) {
	f := os.NewFile(uintptr(fd), "listener")
	if f == nil {
		return listener, fmt.Errorf("descriptor %d is not a socket", fd)
	}
	defer func() { _ = f.Close() }()
	l, err := net.FileListener(f)
	if err != nil {
		return listener, err
	}
	listener, ok := l.(T)
	if !ok {
		_ = l.Close()
		return listener, fmt.Errorf("descriptor %d is no %T, but a %T", fd, listener, l)
	}
	return listener, nil
}

// packetsOf turns a descriptor into a UDP socket of package net. It closes the descriptor.
func packetsOf(fd int) (*net.UDPConn, error) {
	f := os.NewFile(uintptr(fd), "udp")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is not a socket", fd)
	}
	defer func() { _ = f.Close() }()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UDPConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("descriptor %d is another socket: %T", fd, c)
	}
	return u, nil
}

// duplicate returns a second descriptor of a socket.
func duplicate(c syscall.Conn, closedOnExec bool) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	how := unix.F_DUPFD
	if closedOnExec {
		how = unix.F_DUPFD_CLOEXEC
	}
	fd = -1
	if cerr := raw.Control(func(of uintptr) { fd, err = unix.FcntlInt(of, how, 0) }); cerr != nil {
		return -1, cerr
	}
	return fd, os.NewSyscallError("dup", err)
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
