package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"

	"portredirector/internal/ban"
)

// AskBans asks a process for its bans.
func AskBans(ctx context.Context, pid int) (BanList, error) {
	return askBans[BanList](ctx, pid, http.MethodGet, "", nil)
}

// BansOf asks workers concurrently for their bans. A worker that does not answer has none.
func BansOf(ctx context.Context, workers []Worker) (all []BanList) {
	for _, a := range askEach(ctx, askTimeout, workers, func(ctx context.Context, w Worker) (BanList, error) { return AskBans(ctx, w.PID) }) {
		if a.err == nil {
			all = append(all, a.value)
		}
	}
	return all
}

// changed is the answer to a change of bans.
type changed struct {
	Bans int `json:"bans"` // made or lifted
}

// Ban tells a process to make bans. A worker returns [ErrElsewhere].
func Ban(ctx context.Context, pid int, asked []ban.Request) error {
	text, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	_, err = askBans[changed](ctx, pid, http.MethodPost, "", text)
	return err
}

// Unban tells a process to lift the ban of a prefix. It returns the number of bans lifted.
func Unban(ctx context.Context, pid int, p netip.Prefix) (n int, err error) {
	c, err := askBans[changed](ctx, pid, http.MethodDelete, "?prefix="+url.QueryEscape(p.String()), nil)
	return c.Bans, err
}

// askBans sends a request about bans to a process, and decodes the answer.
func askBans[T any](ctx context.Context, pid int, method, query string, content []byte) (answer T, err error) {
	ctx, cancel := within(ctx, askTimeout)
	defer cancel()
	status, answer, err := requestJSON[T](ctx, method, pid, pathBans+query, content)
	switch {
	case status == http.StatusMisdirectedRequest:
		err = ErrElsewhere
	case err != nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return answer, err
}
