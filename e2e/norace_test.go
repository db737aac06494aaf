//go:build !race

package e2e_test

// raceDetector is whether the tests were built with the race detector; the program is then, too.
const raceDetector = false
