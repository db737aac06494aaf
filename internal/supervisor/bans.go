package supervisor

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"

	"portredirector/internal/admin"
	"portredirector/internal/ban"
)

// bansPerOrder is the most bans in an order, because the size of orders is limited.
const bansPerOrder = 200

// tellBans sends a change of the bans to all workers.
func (s *Supervisor) tellBans(c ban.Change) {
	for part := range slices.Chunk(c.Remove, bansPerOrder) {
		s.tellAll(order{Do: doBan, Bans: &ban.Change{Remove: part}})
	}
	for part := range slices.Chunk(c.Add, bansPerOrder) {
		s.tellAll(order{Do: doBan, Bans: &ban.Change{Add: part}})
	}
}

// tellAll sends an order to all workers.
func (s *Supervisor) tellAll(o order) {
	for _, w := range s.workers {
		if w.closed || w.status != nil {
			continue
		}
		if err := w.tell(o, none); err != nil {
			s.log.Warn("cannot tell a worker of a change of the bans", slog.String("section", w.section), slog.Int("pid", w.pid), slog.Any("error", err))
		}
	}
}

// operatorBans implements admin.Bans for the supervisor.
type operatorBans struct{ *Supervisor }

// Bans returns the bans in force, including those that workers have learned from servers.
func (s operatorBans) Bans() admin.BanList {
	list := admin.BanList{Bans: s.bans.List().All()}
	for _, of := range s.askBans() {
		list.Links = append(list.Links, of.Links...)
		for _, b := range of.Bans {
			if b.From == ban.FromServer {
				list.Bans = append(list.Bans, b)
			}
		}
	}
	return list
}

// Ban makes bans, all or none.
func (s operatorBans) Ban(asked []ban.Request) error {
	var links []netip.Addr
	for _, of := range s.askBans() {
		links = append(links, of.Links...)
	}
	return s.change(func() (ban.Change, error) { return s.bans.Add(asked, links) })
}

// Unban lifts the ban of a prefix. Workers also forget learned bans of the prefix.
func (s operatorBans) Unban(p netip.Prefix) (n int, err error) {
	for _, b := range s.Bans().Bans {
		if b.Prefix == p || b.From == ban.FromServer && b.Prefix.Overlaps(p) {
			n++
		}
	}
	err = s.change(func() (ban.Change, error) {
		_, err := s.bans.Remove(p)
		return ban.Change{Remove: []netip.Prefix{p}}, err
	})
	return n, err
}

// change changes the bans on the goroutine of Run, and notifies the workers.
func (s operatorBans) change(do func() (ban.Change, error)) error {
	answered := make(chan error, 1)
	s.post(func() {
		c, err := do()
		ban.Log(s.log, c)
		s.tellBans(c)
		answered <- err
	})
	select {
	case err := <-answered:
		return err
	case <-s.done:
		return errEnding
	}
}

// askBans asks all workers for their bans.
func (s operatorBans) askBans() []admin.BanList {
	return admin.BansOf(context.Background(), s.askWorkers())
}
