package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"portredirector/internal/ban"
	"portredirector/internal/local"
)

// AskBans asks a process for its bans.
func AskBans(ctx context.Context, pid int) (list BanList, err error) {
	err = askBans(ctx, pid, http.MethodGet, "", nil, &list)
	return list, err
}

// Ban tells a process to make bans. A worker returns [ErrElsewhere].
func Ban(ctx context.Context, pid int, asked []ban.Request) error {
	text, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	return askBans(ctx, pid, http.MethodPost, "", text, nil)
}

// Unban tells a process to lift the ban of a prefix. It returns the number of bans lifted.
func Unban(ctx context.Context, pid int, p netip.Prefix) (n int, err error) {
	var answer map[string]int
	err = askBans(ctx, pid, http.MethodDelete, "?prefix="+url.QueryEscape(p.String()), nil, &answer)
	return answer["bans"], err
}

// askBans sends a request about bans to a process, and decodes the answer into to unless to
// is nil.
func askBans(ctx context.Context, pid int, method, query string, content []byte, to any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %v", askTimeout))
	defer cancel()
	err := exchangeBans(ctx, pid, method, query, content, to)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func exchangeBans(ctx context.Context, pid int, method, query string, content []byte, to any) error {
	c, err := local.Admin.Dial(ctx, pid)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+pathBans+query, bytes.NewReader(content))
	if err != nil {
		return err
	}
	if err := request.Write(c); err != nil {
		return local.NoAnswer(c, err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), request)
	if err != nil {
		return local.NoAnswer(c, err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer))
	switch {
	case err != nil:
		return local.NoAnswer(c, err)
	case response.StatusCode == http.StatusMisdirectedRequest:
		return ErrElsewhere
	case response.StatusCode != http.StatusOK:
		var why Failure
		if json.Unmarshal(answer, &why) != nil || why.Error == "" {
			why.Error = "the process does not know bans; it may be an older version"
		}
		return errors.New(why.Error)
	case to == nil:
		return nil
	}
	return json.Unmarshal(answer, to)
}
