package config

import (
	"errors"
	"slices"
	"strings"

	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// addServers adds the servers of -c, and how links to them are opened.
func (f Flags) addServers(c *Client) error {
	if len(f.Connect) == 0 && f.Listen == "" {
		return errors.New("a client needs the server to connect to: -c HOST:PORT; or a port for servers that dial it: -l [HOST:]PORT")
	}
	err := each(f.Connect, func(i int, server string) error {
		err := checkServer(server)
		if err == nil && slices.Contains(f.Connect[:i], server) {
			err = errTwice
		}
		if err != nil {
			return about("connect", i, "-c %s: %w", server, err)
		}
		c.Servers = append(c.Servers, server)
		return nil
	})
	return errors.Join(err, f.addPool(c))
}

// errTwice is the error about a value that was given twice.
var errTwice = errors.New("it was given already")

// each calls do for each of an option's values, and joins the errors.
func each(values []string, do func(i int, value string) error) error {
	var errs []error
	for i, v := range values {
		errs = append(errs, do(i, v))
	}
	return errors.Join(errs...)
}

// addPool adds the bounds on idle links.
func (f Flags) addPool(c *Client) error {
	c.Balance, c.PoolMin, c.PoolMax = f.Balance, f.PoolMin, f.PoolMax
	switch {
	case f.PoolMax < 0 || f.PoolMax > MaxPool:
		return about("pool-max", 0, "--pool-max %d: must be from 0, which is no pool, to %d", f.PoolMax, MaxPool)
	case f.PoolMin < 0 || f.PoolMax > 0 && f.PoolMin > f.PoolMax:
		return about("pool-min", 0, "--pool-min %d: must be from 0 to --pool-max, which is %d", f.PoolMin, f.PoolMax)
	case f.PoolMax == 0 || c.Header != wire.Native:
		// Other receivers would wait for a header on a link that is opened ahead.
		c.PoolMin, c.PoolMax = 0, 0
	}
	return nil
}

// checkServer validates one -c.
func checkServer(server string) error {
	if name, ok := strings.CutPrefix(server, upstream.SRVPrefix); ok {
		if name == "" || strings.ContainsAny(name, ":/ ") {
			return errors.New("srv: takes a name, as in srv:_portredirector._tcp.example.com; the records have the ports")
		}
		return nil
	}
	host, port, err := splitHost(server)
	if err != nil {
		return err
	}
	if host == "" {
		return errors.New("it has no host")
	}
	_, err = parsePort(port)
	return err
}
