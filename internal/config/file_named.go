package config

import (
	"fmt"
	"os"
	"syscall"
)

// CheckFiles returns an error unless the files that sections name can be read by this user: keys,
// certificates and lists of clients. It is of type [Mistakes].
func (f *File) CheckFiles() error {
	var all Mistakes
	for _, s := range f.Sections {
		for _, named := range []struct{ option, file string }{
			{"key", s.flags.Key},
			{"clients", s.flags.Clients},
			{"tls-cert", s.flags.TLSCert},
			{"tls-key", s.flags.TLSKey},
			{"tls-ca", s.flags.TLSCA},
		} {
			if named.file == "" {
				continue
			}
			if err := readable(named.file); err != nil {
				all = append(all, s.locate(about(named.option, 0, "--%s: %w", named.option, err)))
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// readable returns an error unless a file is one that can be read.
func readable(name string) error {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for its other end
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	return err
}
