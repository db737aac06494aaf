package datagram

// SetIDs has all loops go on with the id after n.
func (c *Client) SetIDs(n uint32) {
	for _, l := range c.loops {
		l.mu.Lock()
		l.ids = n
		l.mu.Unlock()
	}
}
