// Package admin answers an operator over HTTP: whether the process is well, and what it does.
//
// Each process answers on a Unix socket of its own, see package local: to its own user and to
// root.
package admin

import "time"

// askTimeout bounds one question to another process.
const askTimeout = 5 * time.Second

// The paths.
const (
	pathHealth  = "/healthz" // 200 if the process is well, 503 with the reason if not
	pathReady   = "/readyz"  // 200 if it also serves new peers
	pathMetrics = "/metrics" // for Prometheus
)
