"""What the calls take and give, as the contract has it: strict types, bounded lengths, nothing that can't be stored."""
