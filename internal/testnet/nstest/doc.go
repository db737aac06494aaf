// Package nstest helps tests that need networks, other programs and the kernel's own state. It makes hosts of package testnet
// that are closed at the end of the test, runs programs in them, and compares what these leave behind. No test needs root, and
// none touches the machine's own network. A package that uses hosts has this TestMain:
//
//	func TestMain(m *testing.M) { nstest.Main(m) }
//
// Every wait is bounded: a test fails if the event has not come within 10 seconds, or 30 in [WaitFor]. [Must] and [WaitFor]
// serve all tests, also those without a network.
package nstest

import "time"

// patience bounds the wait for an event that should come soon.
const patience = 20 * time.Second
