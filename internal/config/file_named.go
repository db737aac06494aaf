package config

import (
	"fmt"
	"os"
	"syscall"
)

// CheckFiles checks that this user can read the files that sections name: keys, certificates and lists of
// clients. Its error is of type [Mistakes].
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
			if err := checkReadable(named.file); err != nil {
				all = append(all, s.locate(about(named.option, 0, "--%s: %w", named.option, err)))
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// checkReadable returns an error unless name is a file that can be read.
func checkReadable(name string) error {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opening a pipe would wait for its writer
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
