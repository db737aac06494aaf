package measure

import "slices"

// alsoSecured lists the rows that exist a second time, with "-tls" after their name, to measure secured links.
var alsoSecured = []string{"bulk-1-up", "bulk-1-down", "bulk-16-up", "bulk-16-down", "conn-reset", "conn-peer-fin", "echo-1", "first-byte", "first-byte-far-1", "first-byte-far-200", "idle"}

// securedRows returns these rows. They are measured on demand only, since together they take almost as long as all others.
func securedRows() []Row {
	var all []Row
	for _, r := range PlainRows() {
		if slices.Contains(alsoSecured, r.Name) {
			r.Name += "-tls"
			r.Title += ", TLS"
			r.Secured = true
			all = append(all, r)
		}
	}
	return all
}
