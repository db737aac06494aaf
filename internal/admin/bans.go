package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"

	"portredirector/internal/ban"
	"portredirector/internal/claim"
)

// pathBans lists bans. Over the Unix socket it also makes and lifts bans.
const pathBans = "/api/v1/bans"

// Bans lists and changes bans.
type Bans interface {
	// Bans returns the bans in force.
	Bans() BanList
	// Ban makes bans, all or none.
	Ban([]ban.Request) error
	// Unban lifts the ban of a prefix, and returns the number of bans lifted.
	Unban(netip.Prefix) (int, error)
}

// BanList answers pathBans.
type BanList struct {
	Bans []ban.Ban `json:"bans"`
	// Links has the other ends of links, which cannot be banned.
	Links []netip.Addr `json:"links,omitempty"`
	// Worker tells that the list is its supervisor's.
	Worker bool `json:"worker,omitempty"`
}

// ErrElsewhere is returned by a worker, whose supervisor owns the bans.
var ErrElsewhere = errors.New("this is a worker: ask its supervisor")

// handleBans registers the list of bans, for every permitted caller.
func handleBans(mux *http.ServeMux, b Bans) {
	mux.HandleFunc("GET "+pathBans, func(w http.ResponseWriter, _ *http.Request) {
		list := b.Bans()
		if list.Bans == nil {
			list.Bans = []ban.Ban{} // not null
		}
		answer(w, list)
	})
}

// mostRequest is the largest body of a request in bytes.
const mostRequest = 32 << 20

// handleBanCommands registers the changes of bans, for this machine's administrator.
func handleBanCommands(mux *http.ServeMux, b Bans) {
	mux.HandleFunc("POST "+pathBans, func(w http.ResponseWriter, r *http.Request) {
		asked, err := readRequests(http.MaxBytesReader(w, r.Body, mostRequest))
		if err == nil {
			err = b.Ban(asked)
		}
		answerBan(w, len(asked), err)
	})
	mux.HandleFunc("DELETE "+pathBans, func(w http.ResponseWriter, r *http.Request) {
		p, err := claim.ParsePrefix(r.URL.Query().Get("prefix"))
		n := 0
		if err == nil {
			n, err = b.Unban(p)
		}
		answerBan(w, n, err)
	})
}

// readRequests reads one request to ban, or an array of them.
func readRequests(from io.Reader) (asked []ban.Request, err error) {
	var text json.RawMessage
	if err := json.NewDecoder(from).Decode(&text); err != nil {
		return nil, err
	}
	if text[0] == '[' {
		return asked, json.Unmarshal(text, &asked)
	}
	asked = make([]ban.Request, 1)
	return asked, json.Unmarshal(text, &asked[0])
}

// answerBan writes the number of bans made or lifted, or an error.
func answerBan(w http.ResponseWriter, n int, err error) {
	switch {
	case errors.Is(err, ErrElsewhere):
		fail(w, http.StatusMisdirectedRequest, err)
	case err != nil:
		fail(w, http.StatusBadRequest, err)
	default:
		answer(w, changed{n})
	}
}
