package main

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"portredirector/internal/config"
	"portredirector/internal/daemon"
	"portredirector/internal/doctor"
	"portredirector/internal/enroll"
	"portredirector/internal/ports"
	"portredirector/internal/sandbox"
	"portredirector/internal/supervisor"
)

// runCommand returns the command that runs all clients and servers of a file.
func runCommand(e env) *cobra.Command {
	return &cobra.Command{
		Use:   "run FILE",
		Short: "Run the clients and servers of a file, and replace them without a cut connection",
		Long: `Run the clients and servers of a file, and replace them without a cut connection.

Each section of FILE runs in a worker process of its own. This process owns the
listening sockets, and starts another worker in place of one that dies.

SIGHUP, or the command reload, makes it read FILE again and execute the program that
is on the disk now: a reload is an upgrade. If FILE is bad, or a worker does not start,
nothing changes. Live connections stay with the old workers until they end, or for
` + "`worker-timeout`" + `. SIGTERM drains all workers, a second one cuts.`,
		Example: `  portredirector run /etc/portredirector/portredirector.toml`,
		Args:    oneFile,
		RunE: func(c *cobra.Command, args []string) error {
			return runFile(c.Context(), e, args[0])
		},
	}
}

// oneFile wants the name of a configuration file.
func oneFile(c *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errors.New(c.Name() + " takes the name of a configuration file")
	}
	return nil
}

// runFile runs a supervisor until a signal ends it.
func runFile(ctx context.Context, e env, path string) error {
	log, to := e.log(false, config.AttrInFile)
	defer to.Close(flushTime)
	if err := sandbox.Raise(sandbox.NetBindService); err != nil {
		log.Warn("cannot make capabilities effective, going on without", slog.Any("error", err))
	}
	if patients, err := patientsOf(path); err == nil { // else the supervisor says why
		doctor.LogQuick(ctx, log, patients...)
	}
	err := supervisor.Run(ctx, supervisor.Config{
		Path: path, Parse: planOf, Version: buildVersion(), BansDir: daemon.BansDir(enroll.Dir()),
		Log: log, Dropped: to.Dropped, Flush: func() { to.Flush(flushTime) },
	})
	if _, ok := errors.AsType[config.Mistakes](err); ok {
		return usageError{err}
	}
	return err
}

// planOf validates a file, and returns what a supervisor has to know of it.
func planOf(path string, content []byte) (supervisor.Plan, error) {
	file, err := config.ReadFile(path, content)
	if err != nil {
		return supervisor.Plan{}, err
	}
	plan := supervisor.Plan{WorkerTimeout: file.WorkerTimeout}
	plan.Bans, _ = file.Admin.Bans.Config()               // the file is content with them
	if address, _ := file.Admin.Listen(); address != "" { // the file is content with it
		plan.AdminNames = file.Admin.Names()
		plan.Admin = supervisor.Section{
			Name: "admin", Addresses: []string{address},
			Listen: func(ctx context.Context, address string) (supervisor.Socket, error) {
				l, err := daemon.Listen(ctx, net.KeepAliveConfig{}, address)
				return l, file.Locate(file.Admin.Located(err))
			},
		}
	}
	for _, s := range file.Sections {
		addresses, alive := s.Listens()
		plan.Sections = append(plan.Sections, supervisor.Section{
			Name: s.Name, Addresses: addresses,
			Listen: func(ctx context.Context, address string) (supervisor.Socket, error) {
				if at, protocol := ports.CutProtocol(address); protocol == ports.UDP {
					c, err := daemon.ListenDatagrams(ctx, at)
					return c, s.Locate(err)
				}
				l, err := daemon.Listen(ctx, alive, address)
				return l, s.Locate(err)
			},
		})
	}
	return plan, nil
}
