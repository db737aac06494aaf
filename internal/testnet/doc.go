// Package testnet builds small networks of hosts on one machine. Each [Host] is a network namespace. [Connect], [Host.Bridge] and
// [Host.Attach] connect them by veth pairs and bridges, and package far connects two over a long distance. All of it is done by
// netlink and system calls; no program is run. The demo of the product uses it, and by way of package nstest the tests.
//
// A plain user may create a namespace only inside a user namespace. [Isolate] starts the program again inside one, together with
// a network, mount and PID namespace. So no privilege is needed, the machine's own network stays as it is, and nothing outlives
// the program:
//
//	if !testnet.Isolated() {
//		code, err := testnet.Isolate()
//		…
//		os.Exit(code)
//	}
//	web, err := testnet.NewHost("web")
//
// # Threads
//
// On Linux a network namespace belongs to a thread, and Go moves goroutines between threads. [Host.Do] alone deals with that. A
// socket or a process keeps the namespace in which it was created, so only its creation has to happen inside Do. [Host.Listen],
// [Host.Dial] and [Host.Start] do that.
//
// # Lifetime of a host
//
// A host lives until it is closed and the last socket and process in it are gone. Its links go with it, at both ends.
package testnet
