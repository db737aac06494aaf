// Package claim decides which addresses a link may speak for.
//
// A link names its peer: the claim. The server dials the service from that address, and
// the service trusts it like any source address. It lets 127.0.0.1 in without a password,
// and often its own machine and its link-local neighbors. So a [Policy] checks each claim
// first. It refuses addresses that would borrow such trust, and addresses that cannot be a
// TCP peer. The administrator adds refusals and lifts some.
//
// # Longest prefix
//
// The longest prefix that contains the address decides, as in routing. Of equally long
// ones the administrator's precedes a built-in one, and deny precedes allow. So a
// permission can be carved out of a refusal and vice versa, and permission for 0.0.0.0/0
// does not open 127.0.0.0/8 by accident.
//
// # Own addresses
//
// [Own] knows the addresses of this machine and follows their changes. Each is refused
// like a built-in prefix of its length. A change takes some hundred microseconds to arrive
// from the kernel, some milliseconds in a burst. During that time a claim of the new
// address passes, and a connection that was made before stays.
//
// The kernel could be asked for each connection, at the price of one system call: bind(2)
// before IP_TRANSPARENT is set succeeds for an own address and fails with EADDRNOTAVAIL
// for any other (inet_addr_valid_or_nonlocal in include/net/inet_sock.h), unless the
// sysctl ip_nonlocal_bind is on. The calls that a transparent dial makes anyway do not
// tell.
//
// # Not covered
//
// Addresses of containers and virtual machines on this machine are not its own, and no
// private network is refused: peers may be there. But a service cannot reply to a claim
// from its own network, see [Policy.CheckService].
package claim
