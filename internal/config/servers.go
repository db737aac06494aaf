package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"portredirector/internal/upstream"
	"portredirector/internal/wire"
)

// addServers adds the servers of -c, and how links to them are opened.
func (f Flags) addServers(c *Client) error {
	for _, server := range f.Connect {
		if err := checkServer(server); err != nil {
			return fmt.Errorf("-c %s: %w", server, err)
		}
		if slices.Contains(c.Servers, server) {
			return fmt.Errorf("-c %s: it was given already", server)
		}
		c.Servers = append(c.Servers, server)
	}
	c.Balance, c.PoolMin, c.PoolMax = f.Balance, f.PoolMin, f.PoolMax
	switch {
	case f.PoolMax < 0 || f.PoolMax > MaxPool:
		return fmt.Errorf("--pool-max %d: must be from 0, which is no pool, to %d", f.PoolMax, MaxPool)
	case f.PoolMin < 0 || f.PoolMax > 0 && f.PoolMin > f.PoolMax:
		return fmt.Errorf("--pool-min %d: must be from 0 to --pool-max, which is %d", f.PoolMin, f.PoolMax)
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
