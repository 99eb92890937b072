// Package backup knows the form of backup files: what is in one, how it is written, and
// how it is checked. It knows nothing of etcd and of what the keys mean. It imports the
// standard library only.
//
// A file is text, compressed with gzip. Its first line is a Header, its last one a
// Trailer, and each line between them an Entry, in the order of the keys; all are JSON.
// The trailer has the number of entries and a SHA-256 of all bytes before it, so a file
// that was cut off or damaged is known by it. It does not show who wrote the file: keep
// backups where nobody else can write.
package backup
