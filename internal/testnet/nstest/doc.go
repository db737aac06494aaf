// Package nstest helps tests that need networks, other programs and the kernel's own state: hosts of package netns that are
// closed at the end of the test, programs running in them, and comparisons of what these leave behind. No test needs root for
// that, and none touches the machine's own network: the TestMain of a package that uses hosts is
//
//	func TestMain(m *testing.M) { nstest.Main(m) }
//
// Waiting is bounded: what has not happened after ten seconds fails the test.
package nstest

import "time"

// patience is how long a test waits for what should happen soon.
const patience = 10 * time.Second
