package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"portredirector/internal/auth"
	"portredirector/internal/config"
	"portredirector/internal/daemon"
	"portredirector/internal/doctor"
	"portredirector/internal/sandbox"
)

// doctorCommand returns the command that checks what a client or server needs.
func doctorCommand(e env) *cobra.Command {
	var flags config.Flags
	var admin config.Admin
	var asJSON bool
	all := &cobra.Command{
		Use:   "doctor {FILE | [client | server] OPTIONS}",
		Short: "Check the machine, the link and the services, and name the mend for each fault",
		Long: `Check the machine, the link and the services, and name the mend for each fault.

The command takes a configuration file, or the options of the program or of its command
client or server. The client or server may run meanwhile. Each result is ok, warn or fail,
with the observation, and below it the mend.

On a server the doctor dials each service from a documentation address. It ends the
connection before the service can accept it. On a client the server does so on request,
and answers with the source address that the service sees.

The exit status is 1 if a check fails.`,
		Example: `  portredirector doctor /etc/portredirector/portredirector.toml
  portredirector doctor -l 12345 -p 80
  portredirector doctor --json client -c 2.2.2.2:12345 -p 80`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && c.Flags().NFlag() == len(changed(c, "json", "verbose")) {
				return nil
			}
			return noArgs(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				patients, err := patientsOf(args[0])
				if err != nil {
					return err
				}
				return e.examine(c.Context(), asJSON, patients...)
			}
			if c.Flags().NFlag() == len(changed(c, "json", "verbose")) {
				return usageError{errors.New("doctor takes a configuration file, or the options of a client or server")}
			}
			end, err := bareEnd(c, flags)
			if err != nil {
				return usageError{err}
			}
			return e.examineEnd(c.Context(), asJSON, end, flags, admin)
		},
	}
	config.BareOptions(all.Flags(), &flags)
	config.AdminOptions(all.Flags(), &admin)
	all.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON object")
	for end, options := range map[string]func(*pflag.FlagSet, *config.Flags){"client": config.ClientOptions, "server": config.ServerOptions} {
		var flags config.Flags
		var admin config.Admin
		c := &cobra.Command{
			Use:   end + " OPTIONS",
			Short: "Check what a " + end + " needs",
			Args:  noArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				return e.examineEnd(c.Context(), asJSON, end, flags, admin)
			},
		}
		options(c.Flags(), &flags)
		config.AdminOptions(c.Flags(), &admin)
		all.AddCommand(c)
	}
	return all
}

// changed returns the named flags that the command line gives.
func changed(c *cobra.Command, names ...string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return !c.Flags().Changed(name) })
}

// examineEnd checks the client or server of a command line.
func (e env) examineEnd(ctx context.Context, asJSON bool, end string, flags config.Flags, admin config.Admin) error {
	_, err := admin.Listen()
	var p *doctor.Patient
	if end == "client" {
		cfg, cerr := flags.Client()
		p, err = patientClient("", &cfg), errors.Join(cerr, err)
	} else {
		cfg, cerr := flags.Server()
		p, err = patientServer("", &cfg), errors.Join(cerr, err)
	}
	if err != nil {
		return usageError{err}
	}
	return e.examine(ctx, asJSON, p)
}

// patientsOf returns the clients and servers of a file.
func patientsOf(path string) (all []*doctor.Patient, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, usageError{err}
	}
	f, err := config.ReadFile(path, content)
	if err != nil {
		return nil, usageError{err}
	}
	for _, s := range f.Sections {
		if s.Client != nil {
			all = append(all, patientClient(s.Name, s.Client))
		} else {
			all = append(all, patientServer(s.Name, s.Server))
		}
	}
	return all, nil
}

func patientClient(section string, cfg *config.Client) *doctor.Patient {
	return &doctor.Patient{
		Section: section, Client: cfg, Version: buildVersion(),
		Credentials: func() (*auth.Dialer, error) { return daemon.ClientCredentials(*cfg) },
	}
}

func patientServer(section string, cfg *config.Server) *doctor.Patient {
	return &doctor.Patient{
		Section: section, Server: cfg, Version: buildVersion(),
		Credentials: func() (*auth.Dialer, error) { return daemon.ServerCredentials(*cfg) },
	}
}

// examine checks the patients and prints the results.
func (e env) examine(ctx context.Context, asJSON bool, patients ...*doctor.Patient) error {
	if err := sandbox.Raise(sandbox.NetAdmin, sandbox.NetBindService); err != nil {
		fmt.Fprintf(e.stderr, "portredirector: cannot make capabilities effective, going on without: %v\n", err)
	}
	diagnosis := doctor.Diagnosis{Results: []doctor.Result{}}
	section := ""
	for _, p := range patients {
		p.Examine(ctx, func(r doctor.Result) {
			if !diagnosis.Add(r) || asJSON {
				return
			}
			if r.Section != section {
				section = r.Section
				fmt.Fprintf(e.stdout, "%s\n", section)
			}
			fmt.Fprint(e.stdout, r)
		})
	}
	if asJSON {
		to := json.NewEncoder(e.stdout)
		to.SetIndent("", "  ")
		to.SetEscapeHTML(false)
		if err := to.Encode(diagnosis); err != nil {
			return err
		}
	}
	if diagnosis.Level == doctor.Fail {
		return exitError(exitRun)
	}
	return nil
}
