"""What plays vidstyle as an instrument: OSC messages, a beat, MIDI clock, and changes that wait for the beat."""
