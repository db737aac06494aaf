package route

import (
	"errors"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	nfnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nftTableOwner is NFT_TABLE_F_OWNER (include/uapi/linux/netfilter/nf_tables.h).
const nftTableOwner = 0x2

// createTable creates an owned table, or a plain one where the kernel knows
// no owners.
func (fs *filters) createTable(t *nftables.Table) error {
	err := fs.createOwned(t)
	fs.owned = err == nil
	if !errors.Is(err, syscall.EOPNOTSUPP) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	fs.conn.AddTable(t)
	return fs.conn.Flush()
}

// createOwned creates an owned table. The library has no word for "owner", so
// the message is written here.
func (fs *filters) createOwned(t *nftables.Table) error {
	attrs, err := nfnetlink.MarshalAttributes([]nfnetlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(nftTableOwner)},
	})
	if err != nil {
		return err
	}
	// A batch, as nf_tables wants it: nfnetlink_rcv_batch in the kernel's
	// net/netfilter/nfnetlink.c. struct nfgenmsg is family, version, id.
	msg := func(typ uint16, flags nfnetlink.HeaderFlags, family byte, id uint16, data []byte) nfnetlink.Message {
		head := []byte{family, unix.NFNETLINK_V0, byte(id >> 8), byte(id)}
		return nfnetlink.Message{
			Header: nfnetlink.Header{Type: nfnetlink.HeaderType(typ), Flags: nfnetlink.Request | flags},
			Data:   append(head, data...),
		}
	}
	const newTable = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE
	if _, err := fs.raw.SendMessages([]nfnetlink.Message{
		msg(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
		msg(newTable, nfnetlink.Create|nfnetlink.Acknowledge, byte(t.Family), 0, attrs),
		msg(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
	}); err != nil {
		return err
	}
	_, err = fs.raw.Receive()
	return err
}
