package enroll_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"portredirector/internal/auth"
	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/testnet/nstest"
)

// accept wants how it goes.
func accept(t *testing.T, s *enroll.State, secret enroll.Secret, server auth.PublicKey, want error) {
	t.Helper()
	if _, err := s.Accept(secret, server, "home"); !errors.Is(err, want) {
		t.Errorf("accepting: %v, want %v", err, want)
	}
}

// TestOnce: a secret brings in one key, as often as that one likes, and no other.
func TestOnce(t *testing.T) {
	s := open(t)
	i, other := invite(t, s), invite(t, s)
	one, two := newKey(), newKey()
	accept(t, s, enroll.NewSecret(), one, enroll.ErrUnknown)
	accept(t, s, enroll.Secret{}, one, enroll.ErrUnknown)
	accept(t, s, i.Secret, auth.PublicKey{}, enroll.ErrUnknown)
	accept(t, s, i.Secret, one, nil)
	accept(t, s, i.Secret, two, enroll.ErrUnknown)
	accept(t, s, i.Secret, one, nil)
	accept(t, reopen(t, s.Dir()), i.Secret, two, enroll.ErrUnknown)
	if diff := cmp.Diff(map[auth.PublicKey]string{one: "home"}, names(t, s)); diff != "" {
		t.Error(diff)
	}
	// Who is there already uses up an invitation, too.
	accept(t, s, other.Secret, one, nil)
	accept(t, s, other.Secret, two, enroll.ErrUnknown)

	if diff := cmp.Diff(map[auth.PublicKey]string{one: "home"}, names(t, s)); diff != "" {
		t.Error(diff)
	}
}

// TestTakenOut: who is taken out of the peers does not come back by the old secret.
func TestTakenOut(t *testing.T) {
	s := open(t)
	i, one := invite(t, s), newKey()
	accept(t, s, i.Secret, one, nil)
	put(t, s, "servers", "")
	accept(t, s, i.Secret, one, enroll.ErrUnknown)
	accept(t, s, i.Secret, newKey(), enroll.ErrUnknown)
	if all := names(t, s); len(all) > 0 {
		t.Error(all)
	}
}

// TestNoSecretIsKept: who reads the state cannot join by it.
func TestNoSecretIsKept(t *testing.T) {
	s := open(t)
	i := invite(t, s)
	line := strings.Split(i.String(), "/")
	for _, name := range []string{"invitations", "servers"} {
		if text := get(t, s, name); strings.Contains(text, line[6]) || strings.Contains(text, fmt.Sprintf("%x", i.Secret[:])) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if i.Secret == invite(t, s).Secret {
		t.Error("the same secret twice")
	}
}

// TestExpiry: to the second; and what has expired is told as such until the next is made.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		a, b := invite(t, s), invite(t, s)
		time.Sleep(15*time.Minute - time.Nanosecond)
		accept(t, s, a.Secret, newKey(), nil)
		time.Sleep(time.Nanosecond)
		accept(t, s, b.Secret, newKey(), enroll.ErrExpired)
		accept(t, reopen(t, s.Dir()), b.Secret, newKey(), enroll.ErrExpired)
		invite(t, s)
		accept(t, s, b.Secret, newKey(), enroll.ErrUnknown)
		if len(names(t, s)) != 1 {
			t.Error(names(t, s))
		}
	})
}

// TestBounds: how many there may be, and for how long.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		for range 64 {
			invite(t, s)
		}
		_, err := s.Invite(address, web, time.Minute)
		wantError(t, err, "64 invitations are open", file(s, "invitations"))
		time.Sleep(time.Hour)
		invite(t, s)
		if n := strings.Count(get(t, s, "invitations"), "\n"); n != 2 {
			t.Errorf("there are %d lines", n)
		}
		for _, d := range []time.Duration{0, -time.Second, 7*24*time.Hour + 1} {
			_, err = s.Invite(address, web, d)
			wantError(t, err, "cannot hold")
		}
	})
}

func TestInvite(t *testing.T) {
	s := open(t)
	i, err := s.Invite("[2001:DB8:0::1]:12345", []ports.Range{{First: 443, Last: 443}, {First: 82, Last: 90}, {First: 80, Last: 81}, {First: 85, Last: 86}}, time.Minute)
	nstest.Must(t, err)
	if got, err := enroll.Parse(i.String()); err != nil || !cmp.Equal(got, i) {
		t.Errorf("%+v, %v", got, err)
	}
	if diff := cmp.Diff([]ports.Range{{First: 80, Last: 90}, {First: 443, Last: 443}}, i.Ports); diff != "" || i.Address != "[2001:db8::1]:12345" {
		t.Error(i.Address, diff)
	}
	own, err := s.Key()
	nstest.Must(t, err)
	if i.Client != own.Public() {
		t.Error("the key is another's")
	}
	for _, bad := range []string{"", "12345", "0.0.0.0:12345", "[::]:12345", ":12345", "m1:0", "m 1:80", "m1/2:80"} {
		_, err := s.Invite(bad, web, time.Minute)
		wantError(t, err, "invite a server")
	}
	_, err = s.Invite(address, nil, time.Minute)
	wantError(t, err, "between 1 and 64")
}

// TestOwnKey: a server that shares the client's state is told so in the log.
func TestOwnKey(t *testing.T) {
	s := open(t)
	i := invite(t, s)
	_, err := s.Accept(i.Secret, i.Client, "home")
	wantError(t, err, "own key")
	var b strings.Builder
	nstest.Must(t, enroll.WriteAnswer(&b, err))
	if b.String() != "\x05" {
		t.Errorf("the answer is %q", b.String())
	}
	accept(t, s, i.Secret, newKey(), nil)
}

// TestNames: nothing that a server calls itself does anything to the file.
func TestNames(t *testing.T) {
	s := open(t)
	for _, tt := range []struct{ name, want string }{
		{"home", "home"},
		{"home", "home-2"},
		{"home", "home-3"},
		{"home-2", "home-2-2"},
		{"", "server"},
		{"-.-", "server-2"},
		{"M2.example.com", "M2.example.com"},
		{"a\nevil " + newKey().String()[:20], ""},
		{"#hash", "hash"},
		{"a b\tc\r\x00\x1b[2Jd", "a-b-c----2Jd"},
		{"übung\xff", "bung"},
		{strings.Repeat("x", 300), strings.Repeat("x", 64)},
		{"ports=80", "ports-80"},
	} {
		server := newKey()
		before := len(names(t, s))
		name, err := s.Accept(invite(t, s).Secret, server, tt.name)
		nstest.Must(t, err)
		all := names(t, s)
		if len(all) != before+1 || all[server] != name || tt.want != "" && name != tt.want {
			t.Errorf("%q is %q (%q), want %q; %d peers", tt.name, all[server], name, tt.want, len(all))
		}
		if last := strings.Split(strings.TrimSpace(get(t, s, "servers")), "\n"); !strings.HasPrefix(last[len(last)-1], name+" "+server.String()+" # since ") {
			t.Errorf("%q: %q", tt.name, last[len(last)-1])
		}
	}
}

// TestEndBetween: wherever the process ends, no second key comes in, and the first does.
func TestEndBetween(t *testing.T) {
	s := open(t)
	i := invite(t, s)
	one, two := newKey(), newKey()

	end := obstruct(t, s, "servers")
	_, err := s.Accept(i.Secret, one, "home")
	wantError(t, err, s.Dir())
	end()
	claimed := get(t, s, "invitations") // and nobody is added yet
	s = reopen(t, s.Dir())
	accept(t, s, i.Secret, two, enroll.ErrUnknown)
	if all := names(t, s); len(all) > 0 {
		t.Errorf("added: %v", all)
	}
	accept(t, s, i.Secret, one, nil)
	accept(t, s, i.Secret, two, enroll.ErrUnknown)

	put(t, s, "invitations", claimed) // as if it had ended after the server was added
	accept(t, s, i.Secret, two, enroll.ErrUnknown)
	accept(t, s, i.Secret, one, nil)

	put(t, s, "invitations", claimed)
	s = reopen(t, s.Dir())
	put(t, s, "servers", "") // somebody does not want it
	accept(t, s, i.Secret, one, enroll.ErrUnknown)
	accept(t, s, i.Secret, two, enroll.ErrUnknown)
}

// TestClaimedInTime: who had it in time is let in later.
func TestClaimedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		i := invite(t, s)
		one := newKey()
		end := obstruct(t, s, "servers")
		_, err := s.Accept(i.Secret, one, "home")
		wantError(t, err, s.Dir())
		end()
		time.Sleep(time.Hour)
		accept(t, s, i.Secret, newKey(), enroll.ErrUnknown)
		accept(t, s, i.Secret, one, nil)
	})
}

// TestRace: of many that come at a time one gets in.
func TestRace(t *testing.T) {
	s := open(t)
	i := invite(t, s)
	const many = 16
	errs := make([]error, many)
	var all sync.WaitGroup
	for n := range errs {
		all.Go(func() {
			s, err := enroll.Open(s.Dir())
			if err == nil {
				_, err = s.Accept(i.Secret, newKey(), "home")
			}
			errs[n] = err
		})
	}
	all.Wait()
	in := 0
	for _, err := range errs {
		switch {
		case err == nil:
			in++
		case !errors.Is(err, enroll.ErrUnknown):
			t.Error(err)
		}
	}
	if in != 1 || len(names(t, s)) != 1 {
		t.Errorf("%d came in, and there are %v", in, names(t, s))
	}
}
