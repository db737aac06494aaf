package console

import (
	"fmt"
	"strconv"
	"time"

	"portredirector/internal/admin"
)

// size formats a number of bytes in at most five characters, as in "1.2M".
func size(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	f, unit := float64(n), ' '
	for _, unit = range "kMGTPE" {
		if f /= 1000; f < 999.5 {
			break
		}
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f%c", f, unit)
	}
	return fmt.Sprintf("%.0f%c", f, unit)
}

// age formats a duration in at most six characters, as in "2h13m".
func age(d time.Duration) string {
	days := int(d.Hours()) / 24
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	case days < 100:
		return fmt.Sprintf("%dd%02dh", days, int(d.Hours())%24)
	}
	return fmt.Sprintf("%dd", days)
}

// trip formats a round trip in at most six characters, as in "12.3ms".
func trip(s admin.Seconds) string {
	switch ms := float64(s) * 1000; {
	case ms < 9.995:
		return fmt.Sprintf("%.2fms", ms)
	case ms < 99.95:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 9999.5:
		return fmt.Sprintf("%.0fms", ms)
	}
	return fmt.Sprintf("%.0fs", float64(s))
}

// maybe formats a round trip, or returns "-" for nil.
func maybe(s *admin.Seconds) string {
	if s == nil {
		return "-"
	}
	return trip(*s)
}

// duration converts seconds.
func duration(s admin.Seconds) time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// count formats a number and its noun, in the plural unless the number is 1.
func count[N int | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
