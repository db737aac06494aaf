package e2e_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portredirector/internal/testnet/nstest"
)

// visitPostfix sends mail. At port 25 postscreen lets in alice's network and turns bob's address away. At port 587 alice's network
// may send mail to others, and bob may not. The Received line of a message names alice.
func visitPostfix(t *testing.T, w *world) {
	p, dir := postfix(t, w)
	c := newSMTP(t, w.alice, 25)
	p.WaitOutput(fmt.Sprintf("CONNECT from [%s]:%d to [127.0.0.1]:25", c.from.Addr(), c.from.Port()))
	p.WaitOutput(fmt.Sprintf("LISTED [%s]:%d", c.from.Addr(), c.from.Port()))
	nstest.Must(t, c.Hello("alice.example"), c.Mail("alice@alice.example"), c.Rcpt("box@example.com"))
	data, err := c.Data()
	nstest.Must(t, err)
	_, err = fmt.Fprint(data, "Subject: test\r\n\r\ntext\r\n")
	nstest.Must(t, err, data.Close(), c.Quit())
	waitFile(t, filepath.Join(dir, "mail", "box", "new", "*"), "Received: from alice.example (unknown [203.0.113.10])")

	if c := newSMTP(t, w.bob, 25); c.Hello("bob.example") == nil {
		if err := c.Mail("bob@bob.example"); err == nil {
			err = c.Rcpt("box@example.com")
			if err == nil || !strings.Contains(err.Error(), "550") {
				t.Errorf("postscreen told bob %v, want a rejection", err)
			}
		}
	}
	p.WaitOutput("DENYLISTED [198.51.100.20]")

	elsewhere := "someone@elsewhere.example"
	c = newSMTP(t, w.alice, 587)
	nstest.Must(t, c.Hello("alice.example"), c.Mail("alice@alice.example"), c.Rcpt(elsewhere), c.Quit())
	c = newSMTP(t, w.bob, 587)
	nstest.Must(t, c.Hello("bob.example"), c.Mail("bob@bob.example"))
	if err := c.Rcpt(elsewhere); err == nil || !strings.Contains(err.Error(), "Relay access denied") {
		t.Errorf("Postfix told bob %v, want no relaying", err)
	}
}

// mailClient is an SMTP connection of a peer.
type mailClient struct {
	*smtp.Client

	from netip.AddrPort
}

func newSMTP(t *testing.T, p peer, port uint16) mailClient {
	t.Helper()
	conn := dial(t, p.Host, p.at(port))
	c, err := smtp.NewClient(conn, "mail.example.com")
	nstest.Must(t, err)
	return mailClient{c, localAddr(conn)}
}

// postfix runs Postfix on M2 with all its files in dir.
func postfix(t *testing.T, w *world) (p *nstest.Process, dir string) {
	t.Helper()
	dir = serviceDir(t, "root")
	uid, gid := account(t, "postfix")
	for _, name := range []string{"queue", "data", "mail", "conf"} {
		nstest.Must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	nstest.Must(t, os.Chown(filepath.Join(dir, "data"), uid, gid), os.Chown(filepath.Join(dir, "mail"), uid, gid))
	conf := filepath.Join(dir, "conf")
	main := strings.NewReplacer("UID", fmt.Sprint(uid), "GID", fmt.Sprint(gid), "DIR", dir).Replace(`
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
maillog_file = /dev/stdout
inet_protocols = ipv4
myhostname = mail.example.com
mydestination =
alias_maps =
smtpd_peername_lookup = no
mynetworks = 203.0.113.0/24
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
postscreen_access_list = permit_mynetworks, cidr:DIR/conf/access
postscreen_greet_wait = 1s
postscreen_denylist_action = enforce
virtual_mailbox_domains = example.com
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = static:box/
virtual_minimum_uid = 1
virtual_uid_maps = static:UID
virtual_gid_maps = static:GID
default_transport = hold
`)
	writeConf(t, conf, "main.cf", main)
	writeConf(t, conf, "access", "198.51.100.20 reject\n")
	writeConf(t, conf, "master.cf", `
127.0.0.1:25 inet n - n - 1 postscreen
smtpd pass - - n - - smtpd
127.0.0.1:587 inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
hold unix - - n - - discard
anvil unix - - n - 1 anvil
`)
	p = nstest.Start(t, w.m2, "postfix", "-c", conf, "start-fg")
	t.Cleanup(func() {
		p.Signal(syscall.SIGTERM) // ends its children, too
		p.Wait()
	})
	waitListening(t, w.m2, "127.0.0.1:25 127.0.0.1:587")
	return p, dir
}

// visitDovecot logs in by IMAP. Dovecot's log has the peer's address.
func visitDovecot(t *testing.T, w *world) {
	d, _ := dovecot(t, w)
	for _, p := range []peer{w.alice, w.carol} {
		logIn(t, p)
		d.WaitOutput(fmt.Sprintf("user=<box>, method=PLAIN, rip=%s, lip=%s,", p.addr, p.loopback(143).Addr()))
	}
}

// dovecot runs Dovecot on M2 with all its files in dir. Its user box has a Maildir in dir/box.
func dovecot(t *testing.T, w *world) (d *nstest.Process, dir string) {
	t.Helper()
	dir = serviceDir(t, "mail")
	uid, gid := account(t, "mail")
	conf := writeConf(t, dir, "dovecot.conf", fmt.Sprintf(`
base_dir = DIR/run
state_dir = DIR/state
log_path = /dev/stderr
protocols = imap
listen = 127.0.0.1, ::1
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = maildir:DIR/box
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=%d gid=%d home=DIR
}
`, uid, gid))
	d = nstest.Start(t, w.m2, "dovecot", "-F", "-c", conf)
	t.Cleanup(func() {
		d.Signal(syscall.SIGTERM) // ends its children, too
		d.Wait()
	})
	waitListening(t, w.m2, "127.0.0.1:143 [::1]:143")
	return d, dir
}

// imap is a connection to an IMAP server.
type imap struct {
	conn  *net.TCPConn
	lines *bufio.Scanner
}

// logIn opens an IMAP connection and selects the inbox.
func logIn(t *testing.T, p peer) imap {
	t.Helper()
	conn := dial(t, p.Host, p.at(143))
	c := imap{conn, bufio.NewScanner(conn)}
	c.say(t, "1 LOGIN box secret", "1 OK")
	c.say(t, "2 SELECT INBOX", "2 OK")
	return c
}

// say sends a line and waits for one that begins with want.
func (c imap) say(t *testing.T, line, want string) {
	t.Helper()
	_, err := fmt.Fprint(c.conn, line+"\r\n")
	nstest.Must(t, err)
	c.hear(t, want)
}

// hear waits for a line that begins with want.
func (c imap) hear(t *testing.T, want string) {
	t.Helper()
	for c.lines.Scan() {
		if strings.HasPrefix(c.lines.Text(), want) {
			return
		}
	}
	t.Fatalf("the IMAP connection ended (%v), want %q", c.lines.Err(), want)
}
