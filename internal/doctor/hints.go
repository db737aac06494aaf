package doctor

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"portredirector/internal/auth"
	"portredirector/internal/claim"
	"portredirector/internal/client"
	"portredirector/internal/dial"
	"portredirector/internal/relay"
	"portredirector/internal/reverse"
	"portredirector/internal/route"
	"portredirector/internal/server"
	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// Inner packages do not name command line options, because a value may come from elsewhere. The
// hints name the option behind an error, in the log and in returned errors.

// Hint names the option behind an error.
type Hint struct {
	Is     error  // compared by errors.Is
	Option string // added behind the error, in brackets
}

// Hints lists the hints of one end. The first that fits counts, so special errors precede general ones.
type Hints []Hint

// The hints of both ends.
var (
	ClientHints = Hints{
		{dial.ErrCongestion, "--link-congestion"},
		{auth.Refusal(wire.NotAuthorized), "--client-key or --clients there"},
		{reverse.ErrUnknownServer, "--server-key"},
		{reverse.ErrNoInvitations, "the server has --join, and this client has --key"},
		{client.ErrNoServer, "--connect-timeout"},
		{client.Refusal(wire.NotAuthorized), "are there keys or certificates on both ends, and ports= there? Its log has it"},
		{client.Refusal(wire.ClaimDenied), "claims= or --allow-claim there, its log has it"},
		{upstream.ErrForeign, otherProgram},
		{upstream.ErrNoAnswer, "it hangs, or " + otherProgram},
		{relay.ErrNoStatus, "--connect-timeout; " + otherProgram},
		{auth.ErrKey, "--server-key here, --client-key or --clients there"},
		{auth.ErrAuthority, "--tls-ca on both ends"},
		{auth.ErrName, "-c"},
		{auth.ErrAuthOnly, "--auth-only on both ends"},
		{auth.ErrCredentials, "--key or --tls-cert there"},
		{auth.ErrEnded, "--key or --tls-cert there, and --allow"},
	}
	ServerHints = Hints{
		{dial.ErrCongestion, "--link-congestion"},
		{auth.Refusal(wire.NotAuthorized), "--server-key there"},
		{server.ErrNotAllowed, "--allow"},
		{server.ErrNoKey, "--key or --tls-cert"},
		{server.ErrPlain, "--key or --tls-cert there"},
		{server.ErrUnknownKey, "--client-key or --clients"},
		{server.ErrPortDenied, "ports= in --clients, or in the file joined of the state directory"},
		{server.ErrClaimDenied, "claims= in --clients, or in the file joined of the state directory"},
		{route.ErrNoTable, "--table"},
		{route.ErrMarkUsed, "--mark"},
		{claim.ErrProtected, "--allow-claim"},
		{claim.ErrForbidden, "--deny-claim"},
		{auth.ErrKey, "--client-key or --clients here, --server-key there"},
		{auth.ErrAuthority, "--tls-ca on both ends"},
		{auth.ErrAuthOnly, "--auth-only on both ends"},
		{auth.ErrCredentials, "--key or --tls-cert there"},
		{auth.ErrEnded, "--key there"},
	}
)

// otherProgram is the hint for a server that is another program than ours.
const otherProgram = "a server that is not portredirector needs --header v2, v1 or py"

// Add returns err with the option that it is about.
func (h Hints) Add(err error) error {
	if _, has := errors.AsType[*hintedError](err); has {
		return err
	}
	for _, one := range h {
		if errors.Is(err, one.Is) {
			return &hintedError{err, one.Option}
		}
	}
	return err
}

// hintedError is an error with a hint behind it.
type hintedError struct {
	error
	option string
}

func (e *hintedError) Error() string { return e.error.Error() + " (" + e.option + ")" }
func (e *hintedError) Unwrap() error { return e.error }

// Logger returns a logger that adds hints to the errors among a line's attributes.
func (h Hints) Logger(to *slog.Logger) *slog.Logger {
	return slog.New(&hintHandler{to.Handler(), h})
}

// hintHandler adds hints and passes lines on.
type hintHandler struct {
	slog.Handler
	hints Hints
}

// Handle passes a line on, with hints.
func (h *hintHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs := make([]slog.Attr, 0, r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	line := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	line.AddAttrs(h.attrs(attrs)...)
	return h.Handler.Handle(ctx, line)
}

// WithAttrs adds hints to attributes of every line.
func (h *hintHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &hintHandler{h.Handler.WithAttrs(h.attrs(slices.Clone(attrs))), h.hints}
}

// WithGroup opens a group.
func (h *hintHandler) WithGroup(name string) slog.Handler {
	return &hintHandler{h.Handler.WithGroup(name), h.hints}
}

// attrs adds hints to the errors among attrs, in place.
func (h *hintHandler) attrs(attrs []slog.Attr) []slog.Attr {
	for i, a := range attrs {
		if err, ok := a.Value.Any().(error); ok {
			attrs[i].Value = slog.AnyValue(h.hints.Add(err))
		}
	}
	return attrs
}
