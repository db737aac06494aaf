package console

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"portredirector/internal/admin"
	"portredirector/internal/local"
)

// WriteStatus writes the status of a process.
func WriteStatus(w io.Writer, s admin.Status) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "process %d, version %s, %s", s.PID, s.Version, well(s.Condition))
	if s.Supervisor {
		fmt.Fprintf(&b, ", supervises %s", count(len(s.Workers), "worker"))
	}
	b.WriteByte('\n')
	for _, worker := range s.Workers {
		writeWorker(&b, s, worker)
	}
	for line := range bytes.Lines(b.Bytes()) {
		text := strings.TrimRight(string(line), " \n")
		if _, err := io.WriteString(w, local.Printable(text)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// well describes the health of a process.
func well(c admin.Condition) string {
	if c.Healthy {
		return "healthy"
	}
	return "UNHEALTHY: " + c.Reason
}

// writeWorker writes the state of a client or server.
func writeWorker(b *bytes.Buffer, s admin.Status, w admin.State) {
	b.WriteByte('\n')
	name := cmp.Or(w.Section, w.Role)
	if s.Supervisor {
		name += fmt.Sprintf(", process %d", w.PID)
		if w.Version != s.Version {
			name += ", version " + w.Version
		}
	}
	if w.State == admin.Silent {
		fmt.Fprintf(b, "%s: no answer\n", name)
		return
	}
	fmt.Fprintf(b, "%s, %s for %s: %s live, %d in all, %sB up, %sB down\n", name, state(w.State), age(s.Time.Sub(w.Began)),
		count(w.Peers, "peer"), w.PeersTotal, size(w.Up), size(w.Down))
	if s.Supervisor && !w.Healthy {
		fmt.Fprintf(b, "%s\n", well(w.Condition))
	}
	t := tabwriter.NewWriter(b, 0, 1, 2, ' ', tabwriter.TabIndent)
	writePorts(t, w)
	writeServers(t, w.Servers)
	writeRoutes(t, w.Routes)
	writeLimits(t, w)
	if len(w.Ends) > 0 {
		fmt.Fprint(t, "  END\tCOUNT\tMEANS\n")
	}
	for _, e := range w.Ends {
		fmt.Fprintf(t, "  %s\t%d\t%s\n", e.Code, e.Count, e.Means)
	}
	_ = t.Flush() // to a buffer
}

// state describes the state of a worker.
func state(s string) string {
	if s == admin.Retired {
		return "an old worker"
	}
	return s
}

// writePorts writes the ports.
func writePorts(t *tabwriter.Writer, w admin.State) {
	if len(w.Ports) == 0 {
		return
	}
	fmt.Fprint(t, "  PORT\tSERVICE\tLIVE\tALL\tUP\tDOWN\tLINK\tCONNECT\tFIRST BYTE\n")
	for _, p := range w.Ports {
		number := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.Port == 0 {
			number = "others"
		}
		service := strings.TrimSpace(p.Service + " " + p.Target)
		fmt.Fprintf(t, "  %s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", number, cmp.Or(service, "-"), p.Peers, p.PeersTotal,
			size(p.Up), size(p.Down), maybe(p.LinkWait), maybe(p.Connect), maybe(p.FirstByte))
	}
	_ = t.Flush()
}

// writeServers writes the servers of a client.
func writeServers(t *tabwriter.Writer, servers []admin.Upstream) {
	if len(servers) == 0 {
		return
	}
	fmt.Fprint(t, "  SERVER\tSTATE\tROUND TRIP\tLINKS: IDLE\tOPENING\tUSED\n")
	for _, s := range servers {
		state := "up"
		if !s.Up {
			state = "DOWN"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%d\t%d\t%d\n", s.Name, state, maybe(s.RTT), s.Links["idle"], s.Links["opening"], s.Links["used"])
	}
	_ = t.Flush()
	for _, s := range servers {
		if s.Failure != "" {
			fmt.Fprintf(t, "  server %s: %s\n", s.Name, s.Failure)
		}
	}
}

// writeRoutes writes the return routes of a server.
func writeRoutes(t *tabwriter.Writer, routes []admin.Route) {
	if len(routes) == 0 {
		return
	}
	fmt.Fprint(t, "  RETURN ROUTE OF\tSTATE\n")
	for _, r := range routes {
		fmt.Fprintf(t, "  %s\t%s\n", r.Service, cmp.Or(r.Problem, r.Finding))
	}
	_ = t.Flush()
}

// writeLimits writes the limits that are set or were reached, and counts of refusals and dropped log lines.
func writeLimits(t *tabwriter.Writer, w admin.State) {
	limits := slices.DeleteFunc(slices.Clone(w.Limits), func(l admin.Limit) bool { return l.Most == 0 && l.Struck == 0 })
	if len(limits) > 0 {
		fmt.Fprint(t, "  LIMIT\tMOST\tUSED\tSTRUCK\n")
	}
	for _, l := range limits {
		used := "-"
		if l.Used != nil {
			used = fmt.Sprint(*l.Used)
		}
		fmt.Fprintf(t, "  --%s\t%d\t%s\t%d\n", l.Name, l.Most, used, l.Struck)
	}
	_ = t.Flush()
	if len(w.Refused) > 0 {
		fmt.Fprint(t, "  refused:")
		for _, r := range w.Refused {
			fmt.Fprintf(t, " %s %d", r.Reason, r.Count)
		}
		fmt.Fprintln(t)
	}
	for _, log := range slices.Sorted(maps.Keys(w.Dropped)) {
		if n := w.Dropped[log]; n > 0 {
			fmt.Fprintf(t, "  %s of the %s log dropped\n", count(n, "line"), log)
		}
	}
}
