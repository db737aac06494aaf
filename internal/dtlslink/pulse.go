package dtlslink

import (
	"time"
)

// times holds the intervals of a link.
type times struct {
	keepAlive time.Duration // between pings of an idle link
	busy      time.Duration // between pings of a busy link
	quick     time.Duration // without an answer from the other end until a ping
	least     time.Duration // before a ping is sent again
	grace     time.Duration // of silence, after which a retired link ends
	age       time.Duration // after which a link is replaced
	check     time.Duration // between checks of the other end's rights
}

func timesOf(keepAlive time.Duration) times {
	return times{
		keepAlive: keepAlive, busy: min(5*time.Second, keepAlive), quick: min(time.Second, keepAlive), least: 500 * time.Millisecond,
		grace: 15 * time.Second, age: time.Hour, check: 5 * time.Second,
	}
}

const (
	// mostPings is the number of unanswered pings after which a link is dead.
	mostPings = 5
	// largePings is the number of these pings that have the size of the path. If only the
	// smaller pings after them are answered, the path MTU has shrunk.
	largePings = 2
	// mostByes is the most times that bye is sent.
	mostByes = 3
	// mostRecords is the most records under one key, well below the limit of AES-GCM (RFC 9147, 4.5.3).
	mostRecords = 1 << 28
)

// pulse is the state of messages that a link sends by itself: pings, path probes and bye.
type pulse struct {
	path path

	number    uint32    // of the last ping or probe
	ping      uint32    // the number of the unanswered ping; 0 is none
	pingSmall uint32    // the number of the first small one of the same series
	pinged    time.Time // when the last ping was sent
	tries     int
	roundTrip time.Duration

	probe  uint32 // the number of the unanswered probe; 0 is none
	probed time.Time

	retired bool
	quiet   time.Time // start of the silence of a retired link
	byes    int       // number of byes still to send
	byeAt   time.Time
	checked time.Time
	asked   time.Time // when the dialer was last asked for another link, or the start of the link
}

// retire makes the link say bye and end when idle.
func (p *pulse) retire(now time.Time) {
	if !p.retired {
		p.retired, p.quiet, p.byes, p.byeAt = true, now, mostByes, now
	}
}

// patience returns the timeout of a ping.
func (p *pulse) patience(least time.Duration) time.Duration {
	const longest = 2 * time.Second
	if p.tries < 3 && p.roundTrip == 0 { // no pong yet
		return least >> (3 - p.tries)
	}
	return min(max(2*p.roundTrip, least), longest)
}

// step performs due work and returns the time until the next call. over reports that the
// link has ended.
func (l *Link) step(now time.Time) (wait time.Duration, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.pulse
	if l.over {
		return 0, true
	}
	at := now.Add(l.times.keepAlive)
	until := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if p.retired && l.quietLocked(now, until) {
		l.over = true
		return 0, true
	}
	l.byeLocked(now, until)
	if err := l.checkLocked(now, until); err != nil {
		l.sayLocked(kindBye)
		l.over, l.why = true, err
		return 0, true
	}
	if !p.retired {
		if l.pingLocked(now, until) {
			l.over, l.why = true, ErrSilent
			return 0, true
		}
		l.probeLocked(now, until)
	}
	return max(at.Sub(now), time.Millisecond), false
}

// quietLocked reports whether a retired link has been idle for the grace time.
func (l *Link) quietLocked(now time.Time, until func(time.Time)) bool {
	p := &l.pulse
	if now.Sub(p.quiet) >= l.times.grace {
		if !l.carried.Swap(false) {
			return true
		}
		p.quiet = now
	}
	until(p.quiet.Add(l.times.grace))
	return false
}

// byeLocked repeats bye, because it may be lost.
func (l *Link) byeLocked(now time.Time, until func(time.Time)) {
	p := &l.pulse
	if p.byes == 0 {
		return
	}
	if !now.Before(p.byeAt) {
		l.sayLocked(kindBye)
		p.byes--
		p.byeAt = now.Add(l.times.least / 4)
	}
	until(p.byeAt)
}

// checkLocked checks the other end's rights and the age of the link. It returns an error if
// the link must end.
func (l *Link) checkLocked(now time.Time, until func(time.Time)) error {
	p := &l.pulse
	if now.Sub(p.checked) >= l.times.check {
		p.checked = now
		if err := l.allowed(); err != nil {
			return err
		}
		if l.seal.next-epoch1-firstNumber > mostRecords {
			p.retire(now)
		}
	}
	until(p.checked.Add(l.times.check))
	if l.dialed {
		if now.Sub(p.asked) >= l.times.age {
			l.askReplace()
			p.asked = now
		}
		until(p.asked.Add(l.times.age))
	}
	return nil
}

// allowed returns an error if the other end may not have a link any more.
func (l *Link) allowed() error {
	if err := l.Still(); err != nil {
		return err
	}
	if l.judge == nil {
		return nil
	}
	return l.judge(l.identity)
}

// askReplace asks the dialer for another link.
func (l *Link) askReplace() {
	select {
	case l.replace <- struct{}{}:
	default:
	}
}

// pingLocked sends a due ping. It reports whether too many are unanswered.
func (l *Link) pingLocked(now time.Time, until func(time.Time)) (dead bool) {
	p := &l.pulse
	if p.ping == 0 {
		due := l.pingDueLocked()
		if now.Before(due) {
			until(due)
			return false
		}
		p.tries, p.pingSmall = 0, 0
	} else if late := p.pinged.Add(p.patience(l.times.least)); now.Before(late) {
		until(late)
		return false
	} else if p.tries++; p.tries >= mostPings {
		return true
	}
	size := p.path.size
	if p.tries >= largePings {
		size = smallestSize
	}
	p.number++
	p.ping, p.pinged = p.number, now
	if p.tries == largePings {
		p.pingSmall = p.number
	}
	l.carried.Store(false)
	l.padLocked(kindPing, p.number, size)
	until(now.Add(p.patience(l.times.least)))
	return false
}

// pingDueLocked returns when the next ping is due. Busy links need pings too, to detect a
// smaller path MTU or a dead path.
func (l *Link) pingDueLocked() time.Time {
	p := &l.pulse
	heard := l.began.Add(time.Duration(l.heard.Load()))
	due := p.pinged.Add(l.times.keepAlive)
	if l.carried.Load() {
		due = p.pinged.Add(l.times.busy)
		if quick := later(heard, p.pinged).Add(l.times.quick); quick.Before(due) {
			due = quick
		}
	}
	return due
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// probeLocked sends a due probe of the path.
func (l *Link) probeLocked(now time.Time, until func(time.Time)) {
	p := &l.pulse
	if p.roundTrip == 0 || p.ping != 0 && p.tries > 0 { // not open, or pings are lost
		return
	}
	if p.probe != 0 {
		if late := p.probed.Add(p.patience(l.times.least)); now.Before(late) {
			until(late)
			return
		}
		p.probe = 0
		p.path.lost()
	}
	size := p.path.next(now)
	if size == 0 {
		until(p.path.search)
		return
	}
	p.number++
	p.probe, p.probed = p.number, now
	l.padLocked(kindPing, p.number, size)
	until(now.Add(p.patience(l.times.least)))
}

// padLocked sends a ping or a pong, padded to a datagram of a size.
func (l *Link) padLocked(kind byte, number uint32, size int) {
	if l.over {
		return
	}
	at := l.beginLocked()
	l.arena = appendNumber(l.arena, kind, number)
	for len(l.arena)-at < size-1-tagSize {
		l.arena = append(l.arena, 0)
	}
	if l.finishLocked(at) == nil {
		l.sendProbeLocked()
	}
}

// sendProbeLocked is like flushLocked for a datagram that may be too large.
func (l *Link) sendProbeLocked() {
	l.conn.send(l.out)
	l.out, l.arena = l.out[:0], l.arena[:0]
}

// pong handles an answer. It reports whether the answer was awaited.
func (l *Link) pong(number uint32, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.pulse
	switch {
	case number == 0:
		return
	case number == p.probe:
		p.roundTrip = max(now.Sub(p.probed), 1)
		p.path.passed(p.path.probe)
		p.probe = 0
	case p.ping != 0 && number <= p.ping && p.ping-number < mostPings:
		if number == p.ping {
			p.roundTrip = max(now.Sub(p.pinged), 1)
		}
		if p.pingSmall != 0 && number >= p.pingSmall {
			p.path.shrink()
			p.probe = 0
		}
		p.ping, p.tries = 0, 0
	default:
		return
	}
	l.wakeUp()
}
