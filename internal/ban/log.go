package ban

import "log/slog"

// Log logs an operator's change.
func Log(log *slog.Logger, c Change) {
	for _, p := range c.Remove {
		log.Info("ban lifted", slog.String("ban", text(p)))
	}
	for _, b := range c.Add {
		until := "for good"
		if !b.Until.IsZero() {
			until = b.Until.Format("2006-01-02T15:04:05Z07:00")
		}
		log.Info("banned", slog.String("ban", text(b.Prefix)), slog.String("until", until), slog.String("why", b.Why))
	}
}
