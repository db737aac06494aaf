package contender

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"

	"portredirector/bench/internal/world"
	"portredirector/internal/testnet"
)

// manyBans is the number of addresses that are banned in each process.
const manyBans = 100_000

// bansAtOnce bounds the arguments of one command.
const bansAtOnce = 50_000

// ban bans many addresses in a process. No visitor has one of them.
func ban(ctx context.Context, h *testnet.Host, binary string, pid int) error {
	all := make([]string, 0, manyBans)
	for a := netip.MustParseAddr("198.18.0.0"); len(all) < manyBans; a = a.Next() { // for benchmarks, RFC 2544
		all = append(all, a.String())
	}
	for some := range slices.Chunk(all, bansAtOnce) {
		args := append([]string{"ban", "--pid", strconv.Itoa(pid), "--"}, some...)
		cmd := exec.CommandContext(ctx, binary, args...) //nolint:gosec // the product
		cmd.Env = world.PlainEnv()
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		err := h.Start(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil {
			return fmt.Errorf("portredirector ban: %w: %.200s", err, bytes.TrimSpace(said.Bytes()))
		}
	}
	return nil
}
