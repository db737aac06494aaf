package measure

import "slices"

// alsoSecured are the rows that are there once more, with "-tls" after their
// name, for what it costs to secure the links.
var alsoSecured = []string{"bulk-1-up", "bulk-1-down", "bulk-16-up", "bulk-16-down", "conn-reset", "conn-peer-fin", "echo-1", "first-byte", "first-byte-far-1", "first-byte-far-200", "idle"}

// securedRows are these rows. Their contenders are those that secure their
// links, beside the same ones without. They are measured on demand only, since
// together they take almost as long as all others.
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
