package admin

import (
	"context"
	"net/http"
)

// Handler returns what callers over TCP reach.
func Handler(a API) http.Handler {
	return Process{API: a}.handler()
}

// ReadEvents is tested here.
var ReadEvents = readEvents

// Follow follows the events of an API.
func Follow(ctx context.Context, a API, to func(name string, data any) error) error {
	return a.follow(ctx, to)
}
