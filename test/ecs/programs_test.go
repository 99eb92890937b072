//go:build linux

package ecs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// program is what the containers beside Envoy run. Each program knows its environment and
// nothing of the mesh.
func program(name string, args []string) error {
	var err error
	switch {
	case name == "storefront":
		err = storefront()
	case name == "colour" && len(args) == 1 && args[0] == "migrate":
		_, err = database()
	case name == "colour":
		err = colour()
	case name == "xray-daemon":
		err = collect("2000")
	case name == "cloudwatch-agent":
		err = collect("8125")
	default:
		err = fmt.Errorf("there is no program %q", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// listenAddress is empty but where containers have no network of their own.
func listenAddress(port string) string { return net.JoinHostPort(os.Getenv("LISTEN_ADDRESS"), port) }

func serve(mux *http.ServeMux) error {
	s := &http.Server{Addr: listenAddress("8080"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return s.ListenAndServe()
}

var calls = &http.Client{Timeout: 20 * time.Second}

func get(url string) (string, error) {
	res, err := calls.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s %s", url, res.Status, b)
	}
	return string(b), err
}

// answer has a function's text answered.
func answer(f func() (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		text, err := f()
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, text)
	}
}

// storefront calls colour by the name of its virtual service.
func storefront() error {
	mux := http.NewServeMux()
	for _, path := range []string{"", "database"} {
		mux.HandleFunc("/"+path, answer(func() (string, error) {
			text, err := get(os.Getenv("COLOUR_URL") + path)
			return "storefront: " + text, err
		}))
	}
	mux.HandleFunc("/whoami", answer(whoami))
	return serve(mux)
}

// whoami asks ECS's metadata and credentials endpoints, as SDKs do.
func whoami() (string, error) {
	text, err := get(os.Getenv("ECS_CONTAINER_METADATA_URI_V4") + "/task")
	if err != nil {
		return "", err
	}
	var task struct{ TaskARN string }
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		return "", err
	}
	at := os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if at == "" {
		at = "http://169.254.170.2" + os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
	}
	if text, err = get(at); err != nil {
		return "", err
	}
	var credentials struct{ RoleArn, AccessKeyID string }
	err = json.Unmarshal([]byte(text), &credentials)
	return task.TaskARN + " " + credentials.RoleArn + " " + credentials.AccessKeyID, err
}

func colour() error {
	if os.Getenv("API_TOKEN") == "" {
		return fmt.Errorf("API_TOKEN is not set")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", answer(func() (string, error) { return "colour " + os.Getenv("GREETING"), nil }))
	mux.HandleFunc("/database", answer(database))
	return serve(mux)
}

// database asks the database for a line.
func database() (string, error) {
	u, err := url.Parse(os.Getenv("DATABASE_URL"))
	if err != nil {
		return "", err
	}
	conn, err := net.DialTimeout("tcp", u.Host, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return bufio.NewReader(conn).ReadString('\n')
}

// collect writes down what comes by UDP, the first so many bytes of it.
func collect(port string) error {
	conn, err := net.ListenPacket("udp", listenAddress(port))
	if err != nil {
		return err
	}
	buffer, left := make([]byte, 1<<16), 1<<18
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		n = min(n, left)
		left -= n
		fmt.Printf("%s\n", buffer[:n])
	}
}
