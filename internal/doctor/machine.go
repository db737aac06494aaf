package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"portredirector/internal/config"
	"portredirector/internal/dial"
	"portredirector/internal/ports"
	"portredirector/internal/sandbox"
	"portredirector/internal/socket"
)

// mendCapabilities is the mend for missing capabilities.
const mendCapabilities = "setcap cap_net_admin,cap_net_bind_service+ep $(command -v portredirector), or run it as root; " +
	"in a unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE, in a container --cap-add=NET_ADMIN"

// checkCapabilities checks whether a server may open transparent sockets. checkPorts covers low
// ports.
func (p *Patient) checkCapabilities(_ context.Context, report reporter) {
	if p.Server == nil {
		return
	}
	if !sandbox.Effective(sandbox.NetAdmin) {
		p.broken = true
		report("capabilities", Fail, "CAP_NET_ADMIN is missing", mendCapabilities)
		return
	}
	if err := socket.CheckTransparent(); err != nil {
		p.broken = true
		report("capabilities", Fail, err.Error(), mendCapabilities)
		return
	}
	report("capabilities", OK, "CAP_NET_ADMIN is there", "")
}

// checkKernel checks the kernel features that a server needs.
func (p *Patient) checkKernel(_ context.Context, report reporter) {
	var name unix.Utsname
	_ = unix.Uname(&name) // it never fails with a valid pointer
	kernel := "Linux " + unix.ByteSliceToString(name.Release[:])
	if p.Server == nil || p.broken {
		report("kernel", OK, kernel, "")
		return
	}
	if err := p.tryNftables(); err != nil {
		p.broken = true
		report("kernel", Fail, kernel+" has no nftables: "+err.Error(), "modprobe nf_tables, or install a kernel with CONFIG_NF_TABLES")
		return
	}
	report("kernel", OK, kernel+", nftables", "")
}

// tryNftables lists the tables.
func (p *Patient) tryNftables() error {
	if p.Proc != "" { // of a test, which cannot take the module away
		if _, err := os.Stat(p.proc("net/netfilter")); err != nil {
			return syscall.EPROTONOSUPPORT
		}
	}
	c, err := nftables.New()
	if err != nil {
		return err
	}
	_, err = c.ListTables()
	return err
}

// Numbers of descriptors. A peer takes two, and for a moment four more for two pipes.
const (
	enoughDescriptors = 4096
	ownDescriptors    = 64
)

// checkDescriptors compares the descriptor limit with the number of peers.
func (p *Patient) checkDescriptors(_ context.Context, report reporter) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		report("descriptors", Warn, err.Error(), "")
		return
	}
	peers := max(0, int(min(limit.Max, 1<<30))-ownDescriptors) / 2
	want := max(enoughDescriptors, 2*p.maxPeers()+ownDescriptors)
	seen := fmt.Sprintf("%d descriptors, for about %d peers at a time", limit.Max, peers)
	mend := fmt.Sprintf("systemctl edit portredirector, with LimitNOFILE=%d below [Service]; in a shell ulimit -Hn %d", max(65536, want), max(65536, want))
	switch {
	case p.maxPeers() > 0 && peers < p.maxPeers():
		report("descriptors", Fail, fmt.Sprintf("%s, and --max-peers is %d", seen, p.maxPeers()), mend)
	case limit.Max < enoughDescriptors && p.maxPeers() == 0:
		report("descriptors", Warn, seen, mend)
	default:
		report("descriptors", OK, seen, "")
	}
}

// checkConntrack checks how full the table of connection tracking is. A full table drops the first
// packet of each connection.
func (p *Patient) checkConntrack(_ context.Context, report reporter) {
	count, err := p.number("sys/net/netfilter/nf_conntrack_count")
	most, err2 := p.number("sys/net/netfilter/nf_conntrack_max")
	if err != nil || err2 != nil || most == 0 {
		report("conntrack", OK, "connection tracking is not in use", "")
		return
	}
	seen := fmt.Sprintf("%d of %d connections", count, most)
	mend := fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 4*most)
	switch {
	case count*100 >= most*95:
		report("conntrack", Fail, seen+": new ones are dropped when it is full", mend)
	case count*100 >= most*80:
		report("conntrack", Warn, seen, mend)
	default:
		report("conntrack", OK, seen, "")
	}
}

// number reads a number below /proc.
func (p *Patient) number(path string) (int, error) {
	text, err := os.ReadFile(p.proc(path))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// checkCongestion checks whether links can use their congestion control.
func (p *Patient) checkCongestion(_ context.Context, report reporter) {
	name, err := p.algorithm()
	if err != nil {
		report("congestion", Fail, p.hints().Add(err).Error(), "modprobe tcp_"+p.congestion())
		return
	}
	report("congestion", OK, "links have "+name, "")
}

// algorithm returns the name of the links' congestion control.
func (p *Patient) algorithm() (string, error) {
	c, err := dial.NewCongestion(p.congestion())
	if err != nil {
		return "", err
	}
	return socket.TryCongestion(c.Algorithm())
}

// checkSlowStart checks whether a link falls back to slow start after idling. BBR does not.
func (p *Patient) checkSlowStart(_ context.Context, report reporter) {
	name, err := p.algorithm()
	if err != nil {
		return // checkCongestion has reported it
	}
	on, err := p.number("sys/net/ipv4/tcp_slow_start_after_idle")
	switch {
	case err != nil || on == 0:
		report("slow start", OK, "a link that was idle keeps its speed", "")
	case name == "bbr":
		report("slow start", OK, "a link that was idle keeps its speed: it has bbr", "")
	default:
		report("slow start", Warn, fmt.Sprintf("a link that was idle begins slowly again: it has %s, and tcp_slow_start_after_idle is 1", name),
			"sysctl -w net.ipv4.tcp_slow_start_after_idle=0, and in /etc/sysctl.d to keep it; or modprobe tcp_bbr")
	}
}

// checkPorts tries to bind the addresses on which this end listens. It does not listen, so no peer
// is lost.
func (p *Patient) checkPorts(_ context.Context, report reporter) {
	var free, own, more int
	for _, at := range p.listens() {
		err := tryBind(at)
		switch {
		case err == nil:
			free++
		case errors.Is(err, syscall.EADDRINUSE):
			protocol, port := protocolAndPort(at)
			holder := p.holder(protocol, port)
			if holder.own {
				own++
				continue
			}
			if more++; more <= mostLines {
				report("ports", Fail, fmt.Sprintf("%s is in use by %s", at, holder),
					listeners(protocol, port)+" shows it: stop that program, or listen on another port or address")
			}
		case errors.Is(err, syscall.EACCES):
			report("capabilities", Fail, fmt.Sprintf("%s cannot be listened on: CAP_NET_BIND_SERVICE is missing", at), mendCapabilities)
			return
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			report("ports", Fail, at+" is no address of this machine", "ip -br address shows those that are")
		default:
			report("ports", Fail, at+": "+err.Error(), "")
		}
	}
	switch {
	case own > 0:
		report("ports", OK, fmt.Sprintf("%d in use by portredirector itself, %d free", own, free), "")
	case free > 0:
		report("ports", OK, fmt.Sprintf("%d free", free), "")
	}
}

// mostLines is the most results of one kind.
const mostLines = 8

// listens lists the addresses on which this end listens, those of UDP with "/udp" behind.
func (p *Patient) listens() (all []string) {
	links := ""
	if p.Client != nil {
		all, links = p.Client.All(), p.Client.ListenLinks
	} else {
		links = p.Server.Listen
	}
	if links == "" {
		return all
	}
	all = append(all, links)
	if p.datagrams() {
		all = append(all, config.UDPAddress(links))
	}
	return all
}

// datagrams reports whether this end has UDP ports or services.
func (p *Patient) datagrams() bool {
	if p.Client != nil {
		return len(p.Client.ListenUDP) > 0
	}
	return len(p.Server.UDPServices) > 0
}

// protocolAndPort returns both of an address that this end listens on.
func protocolAndPort(at string) (ports.Protocol, string) {
	address, protocol := ports.CutProtocol(at)
	_, port, _ := net.SplitHostPort(address)
	return protocol, port
}

// listeners returns the command that shows who listens on a port.
func listeners(p ports.Protocol, port string) string {
	return fmt.Sprintf("ss -l%cnp 'sport = :%s'", p.String()[0], port)
}

// tryBind binds an address as a listener would, and closes the socket.
func tryBind(at string) error {
	address, protocol := ports.CutProtocol(at)
	kind := unix.SOCK_STREAM
	if protocol == ports.UDP {
		kind = unix.SOCK_DGRAM
	}
	to, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return err
	}
	var a unix.Sockaddr
	family := unix.AF_INET6
	switch ip4 := to.IP.To4(); {
	case ip4 != nil:
		family, a = unix.AF_INET, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(ip4)}
	case to.IP == nil:
		a = &unix.SockaddrInet6{Port: to.Port}
	default:
		a = &unix.SockaddrInet6{Port: to.Port, Addr: [16]byte(to.IP.To16()), ZoneId: zone(to.Zone)}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) && to.IP == nil {
		family, a = unix.AF_INET, &unix.SockaddrInet4{Port: to.Port}
		fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer socket.Close(fd)
	if protocol == ports.TCP { // by UDP two sockets could share the port
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if family == unix.AF_INET6 && to.IP == nil {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, a))
}

func zone(name string) uint32 {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return uint32(i.Index) //nolint:gosec // small
}
