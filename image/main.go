// Image writes the root file system of the container image to standard output, as a tar archive: the program and an empty
// directory. `image bin/portredirector >bin/image.tar`. Both of Docker's builders take file capabilities from an archive,
// without running a program, and so for any architecture.
package main

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// capabilities are those of the file: cap_net_bind_service and cap_net_admin. They are permitted and not effective. So the
// program starts, without them, also in a container that may not have them, where the kernel would refuse effective ones. The
// program raises those that it has.
const capabilities = 1<<10 | 1<<12

// user is the user of the image, as in the Dockerfile.
const user = 65532

// state is the directory of the pairing. A new volume there gets its owner from it.
var state = []*tar.Header{
	{Typeflag: tar.TypeDir, Name: "var/", Mode: 0o755},
	{Typeflag: tar.TypeDir, Name: "var/lib/", Mode: 0o755},
	{Typeflag: tar.TypeDir, Name: "var/lib/portredirector/", Mode: 0o700, Uid: user, Gid: user},
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("it takes the path of the program")
	}
	program, err := os.ReadFile(args[0]) //nolint:gosec // that is what it is for
	if err != nil {
		return err
	}
	archive := tar.NewWriter(out)
	err = archive.WriteHeader(&tar.Header{
		Name: "portredirector", Mode: 0o755, Size: int64(len(program)),
		PAXRecords: map[string]string{"SCHILY.xattr.security.capability": attribute(capabilities)},
	})
	if err != nil {
		return err
	}
	if _, err := archive.Write(program); err != nil {
		return err
	}
	for _, dir := range state {
		if err := archive.WriteHeader(dir); err != nil {
			return err
		}
	}
	return archive.Close()
}

// attribute returns a struct vfs_cap_data (linux/capability.h) with permitted capabilities below 32 only.
func attribute(permitted uint32) string {
	const revision2 = 0x02000000
	var b []byte
	for _, word := range []uint32{revision2, permitted, 0, 0, 0} { // permitted, inheritable; and the same from 32 on
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return string(b)
}
