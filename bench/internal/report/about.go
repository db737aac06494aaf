package report

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"portredirector/bench/internal/contender"
)

// About describes the machine and the programs of a run.
type About struct {
	Date    string `json:"date"`
	Kernel  string `json:"kernel"`
	Cores   int    `json:"cores"`
	CPU     string `json:"cpu"`
	Idle    string `json:"idle_cpus"`
	Load    string `json:"load"`
	TCP     string `json:"tcp"` // its congestion control
	Go      string `json:"go"`
	HAProxy string `json:"haproxy"`
	Product string `json:"portredirector"`
	Before  string `json:"before,omitempty"` // the earlier binary
	Rounds  int    `json:"rounds"`
	Quick   bool   `json:"quick"`
}

// ReadAbout collects the description.
func ReadAbout(ctx context.Context, scratch string, rounds int, quick bool) About {
	a := About{
		Date:    time.Now().Format(time.RFC3339),
		Kernel:  readLine("/proc/sys/kernel/osrelease"),
		Cores:   runtime.NumCPU(),
		CPU:     cpuModel(),
		Load:    readLine("/proc/loadavg"),
		TCP:     readLine("/proc/sys/net/ipv4/tcp_congestion_control"),
		Go:      runtime.Version(),
		HAProxy: firstLine(ctx, "haproxy", "-v"),
		Product: firstLine(ctx, filepath.Join(scratch, contender.Binary), "--version"),
		Rounds:  rounds,
		Quick:   quick,
	}
	before := filepath.Join(scratch, contender.Binary+contender.Before)
	if _, err := os.Stat(before); err == nil {
		a.Before = firstLine(ctx, before, "--version")
	}
	return a
}

// Print prints the description.
func (a About) Print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rounds := fmt.Sprint(a.Rounds)
	if a.Quick {
		rounds += ", quick: the numbers are worth nothing"
	}
	for _, line := range [][2]string{
		{"date", a.Date},
		{"kernel", a.Kernel},
		{"cores", fmt.Sprintf("%d, %s", a.Cores, a.CPU)},
		{"idle CPUs", a.Idle},
		{"load before", a.Load},
		{"TCP", a.TCP},
		{"Go", a.Go},
		{"HAProxy", a.HAProxy},
		{"portredirector", a.Product},
		{"before", a.Before},
		{"rounds", rounds},
	} {
		if line[1] == "" {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\n", line[0], line[1])
	}
	_ = t.Flush()
}

// cpuModel returns the model name of the first CPU.
func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func readLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// firstLine returns the first line that a program prints.
func firstLine(ctx context.Context, path string, args ...string) string {
	out, err := exec.CommandContext(ctx, path, args...).Output() //nolint:gosec // the contenders'
	if err != nil {
		return "none: " + err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
