package sandbox

import (
	"os"
	"path/filepath"
	"slices"
)

// Names are the directories that have to stay readable for names to be resolved.
//
// Package net looks at these files again after five seconds, and opens those that
// have changed (hosts.go, nss.go and dnsclient_unix.go there). One that it cannot
// open it does not report: it forgets the hosts, and asks a name server on this
// machine. Programs replace the files by rename(2), so it takes the
// directories, and where a file is a symbolic link, as systemd-resolved and
// resolvconf have it, also the directory of what it leads to. Looking links up
// needs no permission of Landlock's.
//
// The price is that all of /etc can be read, as far as the user may: leave it
// out where nothing has a name.
//
// It is not enough for the resolver of the C library, which loads further
// libraries. A program built with cgo uses that one where nsswitch.conf or
// resolv.conf ask for what Go does not know (conf.go there), one built without
// never.
func Names() []string {
	return directories("/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf")
}

// Socket are the directories that have to stay within reach for a Unix socket to be
// connected to, also when who listens on it has made it anew.
func Socket(path string) []string {
	return directories(path)
}

// directories are those that a look at the files passes by: of each file, and of
// each link on the way to it.
func directories(files ...string) []string {
	var dirs []string
	for _, path := range files {
		for range 40 { // the kernel follows as many, path_resolution(7)
			dir := filepath.Dir(path)
			// From a real directory ".." leads where it seems to.
			if resolved, err := filepath.EvalSymlinks(dir); err == nil {
				dir = resolved
			}
			if !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
			target, err := os.Readlink(path)
			if err != nil {
				break // it is no link, or not there
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(dir, target)
			}
			path = target
		}
	}
	return dirs
}
