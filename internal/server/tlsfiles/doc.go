// Package tlsfiles serves TLS from files that somebody else renews. It reads them again
// when they change, takes what is whole, and keeps what was good before where they do
// not load.
//
// The files are read again every few seconds instead of being watched. A Kubernetes
// volume changes by a swap of links, a network file system tells nobody, and a
// certificate tool may write the two files of a pair in either order: looking at the
// contents covers all of them in the same way. Contents are taken once two looks in a
// row have found the same, so that a file which is still being written is not.
//
// Libraries exist and were not taken: gRPC's pemfile tells no one but its own log why a
// pair does not load, with the key in that line, and wants both files in one folder;
// certwatcher of controller-runtime brings Kubernetes along.
//
// The package may import the standard library only.
package tlsfiles
