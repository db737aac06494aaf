package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/config"
)

// choices lists the values of the options that take one of a few.
var choices = map[string][]cobra.Completion{
	"balance": {"failover\tthe first that works", "round-robin\teach in turn", "least-peers\tthe one with the fewest peers"},
	"sort":    {"rate\tbytes a second", "bytes\tin all", "age\tthe oldest first"},
	"header":  {"native\tof this program", "v2\tPROXY protocol, binary", "v1\tPROXY protocol, a line", "py\tPyPortRedirector's line"},
}

// completeValues registers the completion of arguments and of values of options. Names of files are completed
// only where a file is named.
func completeValues(c *cobra.Command) {
	c.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	if strings.Contains(c.Use, " FILE") {
		c.ValidArgsFunction = files
	}
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		var complete cobra.CompletionFunc
		if values := choices[f.Name]; values != nil {
			complete = cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
		} else if f.Name == "link-congestion" {
			complete = congestions
		} else if name, _ := pflag.UnquoteUsage(f); name == "FILE" {
			complete = files
		}
		if complete != nil {
			_ = c.RegisterFlagCompletionFunc(f.Name, complete) // it fails only for a missing flag, or the second time
		}
	})
}

// files lets the shell complete the name of a file.
func files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// congestions completes the name of a congestion control of the kernel.
func congestions(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	all := []cobra.Completion{config.DefaultLinkCongestion + "\tBBR where the kernel permits it", "system\tthat of the system"}
	known, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	return append(all, strings.Fields(string(known))...), cobra.ShellCompDirectiveNoFileComp
}
