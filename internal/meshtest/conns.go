package meshtest

import "net"

// HandleConns has each connection of a listener handled, and closed then, until the
// listener is closed.
func HandleConns(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			handle(c)
		}()
	}
}
