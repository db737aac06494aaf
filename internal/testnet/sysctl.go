package testnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Sysctl returns a kernel setting of the host, such as "net.ipv4.ip_forward". Where a part of the name contains a dot, the
// separator is a slash, as in sysctl(8).
func (h *Host) Sysctl(name string) (value string, err error) {
	err = h.Do(func() error {
		data, err := os.ReadFile(sysctlPath(name))
		value = strings.TrimSpace(string(data))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("sysctl on %s: %w", h.Name, err)
	}
	return value, nil
}

// SetSysctl changes a kernel setting of the host.
func (h *Host) SetSysctl(name, value string) error {
	if err := h.Do(func() error { return writeSysctl(name, value) }); err != nil {
		return fmt.Errorf("sysctl on %s: %w", h.Name, err)
	}
	return nil
}

// writeSysctl changes a kernel setting. Below /proc/sys/net the namespace counts in which the calling thread opens the file.
func writeSysctl(name, value string) error {
	f, err := os.OpenFile(sysctlPath(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func sysctlPath(name string) string {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	return filepath.Join("/proc/sys", name)
}
