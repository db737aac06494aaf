package ban

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Config has the operator's settings for bans.
type Config struct {
	Static []netip.Prefix // banned while configured
	Never  []netip.Prefix // exempt from bans
	Most   int            // the most bans at a time
}

// DefaultMost is the default of Config.Most.
const DefaultMost = 100_000

// Book checks requests for bans, and persists the bans of a List.
type Book struct {
	list *List
	log  *slog.Logger

	mu   sync.Mutex
	cfg  Config // guarded by mu
	file *file  // nil persists nothing; guarded by mu
}

// OpenBook returns the book of a list. If the list is empty, it loads the bans of a directory.
// The first ban creates the directory. With "" nothing is persisted.
func OpenBook(list *List, cfg Config, dir string, log *slog.Logger) *Book {
	b := &Book{list: list, log: log, cfg: Config{Most: cfg.Most}}
	if dir != "" {
		b.file = &file{dir: dir}
	}
	if n, _ := list.Len(); n == 0 && b.file != nil {
		kept, err := b.file.read()
		if err != nil {
			log.Warn("bans of an earlier run cannot be read", slog.Any("error", err))
		}
		list.Apply(Change{Add: kept})
	}
	b.Configure(cfg)
	return b
}

// List returns the list of the book.
func (b *Book) List() *List { return b.list }

// Configure replaces the configuration, and returns the resulting change of bans.
func (b *Book) Configure(cfg Config) Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cfg = cfg
	b.list.Spare(cfg.Never)
	var c Change
	for _, old := range b.list.All() {
		switch never, ok := overlapping(cfg.Never, old.Prefix); {
		case old.From == FromFile && !slices.Contains(cfg.Static, old.Prefix):
			c.Remove = append(c.Remove, old.Prefix)
		case ok:
			c.Remove = append(c.Remove, old.Prefix)
			b.log.Warn("ban lifted: the range overlaps addresses that are never banned", slog.Any("ban", old.Prefix), slog.Any("never_ban", never))
		}
	}
	for _, p := range cfg.Static {
		if old, ok := b.get(p); !ok || old.From != FromFile {
			c.Add = append(c.Add, Ban{Prefix: p, Since: time.Now().Round(0), From: FromFile})
		}
	}
	b.list.Apply(c)
	b.keepLocked(c)
	return c
}

// get returns the ban of a prefix.
func (b *Book) get(p netip.Prefix) (Ban, bool) {
	if t := b.list.bans.Load(); t != nil {
		if old, ok := t.Get(p); ok && old.live(time.Now()) {
			return *old, true
		}
	}
	return Ban{}, false
}

// Add adds the requested bans, all or none. links are the other ends of links, which cannot
// be banned.
func (b *Book) Add(asked []Request, links []netip.Addr) (c Change, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	own, err := ownAddresses()
	if err != nil {
		return c, err
	}
	for _, r := range asked {
		one, rerr := r.ban(time.Now())
		if rerr == nil {
			rerr = b.cfg.check(one.Prefix, own, links)
		}
		if rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		if old, ok := b.get(one.Prefix); !ok || one.Left() > old.Left() {
			c.Add = append(c.Add, one)
		}
	}
	if err != nil {
		return Change{}, err
	}
	if b.cfg.Most > 0 && len(c.Add) > 0 {
		if n, _ := b.list.Len(); n+len(c.Add) > b.cfg.Most {
			b.list.purge()
		}
		if n, _ := b.list.Len(); n+len(c.Add) > b.cfg.Most {
			return Change{}, fmt.Errorf("there are %d bans already, and --max-bans is %d", n, b.cfg.Most)
		}
	}
	b.list.Apply(c)
	b.keepLocked(c)
	return c, nil
}

// Remove lifts the ban of a prefix, if any. It returns an error if the prefix stays banned.
func (b *Book) Remove(p netip.Prefix) (c Change, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, ok := b.get(p)
	if ok && old.From == FromFile {
		return c, fmt.Errorf("the ban of %s is in the configuration: remove it there and reload", p)
	}
	if ok {
		c.Remove = []netip.Prefix{p}
		b.list.Apply(c)
		b.keepLocked(c)
	}
	if wider, ok := b.list.covering(p); ok {
		return c, fmt.Errorf("%s stays banned, as part of %s", p, wider)
	}
	return c, nil
}

// keepLocked appends a change to the file.
func (b *Book) keepLocked(c Change) {
	if b.file == nil {
		return
	}
	if err := b.file.write(c, b.list); err != nil {
		b.log.Warn("bans will not outlive a restart", slog.Any("error", err))
		b.file.close()
		b.file = nil
	}
}

// Close closes the file.
func (b *Book) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.file != nil {
		b.file.close()
		b.file = nil
	}
}

// loopback lists prefixes that may not be banned.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// check returns an error if a prefix may not be banned.
func (c Config) check(p netip.Prefix, own, links []netip.Addr) error {
	for _, kind := range []struct {
		prefixes []netip.Prefix
		what     string
	}{
		{loopback, "which is loopback"},
		{whole(own), "an address of this machine"},
		{whole(links), "the other end of a link"},
		{c.Never, "which --never-ban protects"},
	} {
		if never, ok := overlapping(kind.prefixes, p); ok {
			return fmt.Errorf("%s cannot be banned: overlaps %s, %s", text(p), text(never), kind.what)
		}
	}
	return nil
}

// Check returns an error if a prefix may not be banned on any machine.
func (c Config) Check(p netip.Prefix) error { return c.check(p, nil, nil) }

// overlapping returns the first prefix that overlaps p.
func overlapping(all []netip.Prefix, p netip.Prefix) (netip.Prefix, bool) {
	i := slices.IndexFunc(all, p.Overlaps)
	if i < 0 {
		return netip.Prefix{}, false
	}
	return all[i], true
}

// whole returns a full-length prefix for each address.
func whole(addrs []netip.Addr) (all []netip.Prefix) {
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		all = append(all, netip.PrefixFrom(a, a.BitLen()))
	}
	return all
}

// text formats a prefix, and a full-length one as an address.
func text(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// ownAddresses returns the addresses of this machine.
func ownAddresses() (own []netip.Addr, err error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("learn the addresses of this machine: %w", err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				own = append(own, ip)
			}
		}
	}
	return own, nil
}
