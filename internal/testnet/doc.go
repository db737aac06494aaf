// Package netns builds small networks of hosts on one machine: every [Host] is a network namespace, and [Connect],
// [Host.Bridge] and [Host.Attach] join them by veth pairs and bridges, [ConnectFar] by a way that takes its time. All of it is
// done by netlink and system calls; no program is run. It serves the demo of the product and, by way of package nstest, the tests.
//
// Making a namespace takes privileges that a plain user has only inside a user namespace of their own. [Isolate] starts the
// program again inside one, together with a network, mount and PID namespace, so that no privilege is needed, nothing of the
// machine's own network is touched, and nothing outlives the program:
//
//	if !netns.Isolated() {
//		code, err := netns.Isolate()
//		…
//		os.Exit(code)
//	}
//	web, err := netns.NewHost("web")
//
// # Threads
//
// On Linux a network namespace belongs to a thread, and Go moves goroutines between threads. [Host.Do] is the one place that
// deals with it. What a socket or a process gets from the namespace it was made in, it keeps, so only its making has to happen
// inside Do; [Host.Listen], [Host.Dial] and [Host.Start] do that.
//
// # Life of a host
//
// A host lives until it is closed and the last socket and process in it are gone. Its links go with it, at both ends.
package testnet
