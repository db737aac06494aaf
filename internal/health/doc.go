// Package health reports a daemon's health to local callers, see package local.
package health

import "time"

// answerTimeout bounds one answer, at both ends.
const answerTimeout = 5 * time.Second

// well is the first word of the answer of a healthy daemon. A note may follow.
const well = "ok"
