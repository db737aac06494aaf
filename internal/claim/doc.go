// Package claim decides which addresses a link may speak for.
//
// A link names the peer that it speaks for: the claim. The server dials the
// service from that address, and the service believes it, as it believes any
// source address: it lets 127.0.0.1 in without a password, and its own machine
// and the link-local neighbours often, too. So a [Policy] judges each claim
// first. By itself it refuses what would borrow such trust and what can be no
// TCP peer; the administrator adds refusals and lifts some.
//
// # The contest
//
// The longest prefix that has the address decides, as in routing. Of equally
// long ones the administrator's wins over a built-in, and deny over allow. So
// one can carve a permission out of a refusal and the other way round, and
// permission for 0.0.0.0/0 does not open 127.0.0.0/8 by accident.
//
// # Own addresses
//
// [Own] knows the addresses of this machine and follows their changes; each
// is a built-in refusal as long as the address. That news takes from the kernel to
// here some hundred microseconds, some milliseconds in a burst, in which a
// claim of the newest address gets by. So does one that was made before the
// address came, and that connection stays.
//
// A server that cannot live with that may ask the kernel itself, at the
// price of one system call for each connection: bind(2) before IP_TRANSPARENT is
// set succeeds for an own address and fails with EADDRNOTAVAIL for any other
// (inet_addr_valid_or_nonlocal in include/net/inet_sock.h), unless the sysctl
// ip_nonlocal_bind is on. No call that a transparent dial makes anyway
// tells: bind, connect and getsockname answer alike for both.
//
// # Not covered
//
// The addresses of containers and virtual machines on this machine are not
// its own, and no private network is refused: peers may well be there.
package claim
